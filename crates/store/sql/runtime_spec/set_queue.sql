-- $1 workspace, $2 queue
UPDATE runtime_spec SET queue_id = $2, version = version + 1, updated_at = now() WHERE workspace_id = $1
