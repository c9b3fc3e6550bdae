-- The version of a secret's value, locked until the transaction ends, so that two new values get two versions; and when the first
-- one was set.
-- $1 project, $2 workspace or NULL, $3 pipeline or empty, $4 name
SELECT version, created_at FROM secret
 WHERE project_id = $1 AND workspace_id IS NOT DISTINCT FROM $2::uuid AND pipeline = $3 AND name = $4
   FOR UPDATE
