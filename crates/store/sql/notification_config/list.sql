-- What is configured for some workspaces, in order.
-- $1 workspaces
SELECT c.workspace_id, c.pipeline_id, coalesce(p.name, '') AS pipeline, c.config, c.updated_at,
       c.version, c.key_id, c.wrapped_key, c.sealed
  FROM notification_config c
  LEFT JOIN pipeline p ON p.id = c.pipeline_id
 WHERE c.workspace_id = ANY ($1::uuid[])
 ORDER BY c.workspace_id, p.name NULLS FIRST
