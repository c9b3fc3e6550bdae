-- Writes the version after the one that was edited; no row where that one is not in force.
-- $1 workspace, $2 spec, $3 queue, $4 the version that was edited
UPDATE runtime_spec SET spec = $2, queue_id = $3, version = version + 1, updated_at = now()
 WHERE workspace_id = $1 AND version = $4
RETURNING version
