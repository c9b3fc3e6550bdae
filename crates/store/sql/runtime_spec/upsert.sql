-- Writes a version where the one that was edited is in force; no row otherwise.
-- $1 workspace, $2 spec, $3 queue, $4 the version that was edited, 0 for whatever there is
INSERT INTO runtime_spec (workspace_id, spec, queue_id) SELECT $1, $2, $3 WHERE $4::bigint = 0
ON CONFLICT (workspace_id) DO UPDATE
   SET spec = $2, queue_id = $3, version = runtime_spec.version + 1, updated_at = now()
RETURNING version
