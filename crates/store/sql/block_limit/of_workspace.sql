-- The names of the limits that are defined in a workspace ($1).
SELECT name FROM block_limit WHERE workspace_id = $1::uuid AND max_blocks IS NOT NULL ORDER BY name
