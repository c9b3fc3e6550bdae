-- $1 project, $2 workspace or NULL, $3 pipeline or empty, $4 name
DELETE FROM secret
 WHERE project_id = $1 AND workspace_id IS NOT DISTINCT FROM $2::uuid AND pipeline = $3 AND name = $4
