-- Those of workspaces $1 that are not archived.
SELECT id FROM workspace WHERE id = ANY ($1::uuid[]) AND archived_at IS NULL
