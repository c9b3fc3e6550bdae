-- A receiver took a message: its lane waits no more.
-- $1 workspace, $2 pipeline, $3 source, $4 channel
DELETE FROM notification_lane WHERE workspace_id = $1 AND pipeline_id = $2 AND source = $3 AND channel = $4
