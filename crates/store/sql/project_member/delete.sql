-- $1 project, $2 user or NULL, $3 group or NULL
DELETE FROM project_member WHERE project_id = $1 AND (user_id = $2::uuid OR group_id = $3::uuid)
