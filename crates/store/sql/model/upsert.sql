-- The model of this name; one that was archived comes back.
-- $1 id of a new one, $2 workspace, $3 name
INSERT INTO model (id, workspace_id, name) VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, name) DO UPDATE SET archived_at = NULL
RETURNING id
