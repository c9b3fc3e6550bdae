-- $1 workspace, $2 pipeline or the nil uuid
DELETE FROM notification_config WHERE workspace_id = $1 AND pipeline_id = $2
