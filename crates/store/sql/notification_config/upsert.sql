-- Sets whom to tell of a workspace's runs, or of one pipeline's; the nil uuid stands for every pipeline. No row when
-- somebody else has set it since its version was read, which the seal binds.
-- $1 workspace, $2 pipeline, $3 configuration without secrets, $4 version, $5 key, $6 wrapped key, $7 sealed configuration
INSERT INTO notification_config AS c (workspace_id, pipeline_id, config, version, key_id, wrapped_key, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (workspace_id, pipeline_id) DO UPDATE
   SET config = EXCLUDED.config, version = EXCLUDED.version, updated_at = now(),
       key_id = EXCLUDED.key_id, wrapped_key = EXCLUDED.wrapped_key, sealed = EXCLUDED.sealed
 WHERE c.version = EXCLUDED.version - 1
