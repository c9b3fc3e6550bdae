-- $1 workspace, $2 pipeline or the nil uuid
SELECT version FROM notification_config WHERE workspace_id = $1 AND pipeline_id = $2
