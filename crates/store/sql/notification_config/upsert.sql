-- Sets whom to tell of a workspace's runs, or of one pipeline's; the nil uuid stands for every pipeline.
-- $1 workspace, $2 pipeline, $3 configuration
INSERT INTO notification_config AS c (workspace_id, pipeline_id, config) VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, pipeline_id) DO UPDATE
   SET config = EXCLUDED.config, version = c.version + 1, updated_at = now()
