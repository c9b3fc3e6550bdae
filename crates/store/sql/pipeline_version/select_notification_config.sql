-- Whom a version's own metadata tells; NULL where nobody.
-- $1 pipeline, $2 version
SELECT nullif(spec -> 'notification_config', '{}'::jsonb) AS config FROM pipeline_version WHERE pipeline_id = $1 AND version = $2
