-- How many own a project: its person, its group, members and groups with that role.
-- $1 project
SELECT (SELECT count(*) FROM project WHERE id = $1 AND (owner_user_id IS NOT NULL OR owner_group_id IS NOT NULL))
     + (SELECT count(*) FROM project_member WHERE project_id = $1 AND role = 'owner')
