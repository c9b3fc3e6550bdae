-- Forgets the spec of a runtime that has stopped; no row while it has not.
-- $1 workspace
DELETE FROM runtime_spec s
 WHERE s.workspace_id = $1
   AND NOT EXISTS (SELECT 1 FROM runtime r WHERE r.workspace_id = s.workspace_id AND r.state <> 'stopped')
RETURNING s.version
