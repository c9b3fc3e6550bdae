-- The names of the limits that are defined in these workspaces ($1).
SELECT workspace_id, name FROM block_limit
WHERE workspace_id = ANY ($1::uuid[]) AND max_blocks IS NOT NULL ORDER BY workspace_id, name
