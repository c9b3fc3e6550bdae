-- Configurations that one of these keys seals, or none; locked until the transaction ends. What somebody else holds is left to
-- them.
-- $1 keys, $2 limit
SELECT c.workspace_id, c.pipeline_id, '' AS pipeline, c.config, c.updated_at, c.version, c.key_id, c.wrapped_key, c.sealed
  FROM notification_config c
 WHERE c.key_id IS NULL OR c.key_id = ANY ($1::text[])
 ORDER BY c.workspace_id, c.pipeline_id LIMIT $2 FOR UPDATE SKIP LOCKED
