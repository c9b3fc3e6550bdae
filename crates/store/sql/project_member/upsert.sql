-- Adds a member or changes the role.
-- $1 id, $2 project, $3 user or NULL, $4 group or NULL, $5 role
WITH changed AS (
    UPDATE project_member SET role = $5
     WHERE project_id = $2 AND (user_id = $3::uuid OR group_id = $4::uuid) RETURNING id
)
INSERT INTO project_member (id, project_id, user_id, group_id, role)
SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM changed)
