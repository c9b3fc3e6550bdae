-- Creates a workspace; no row when the name is taken.
-- $1 id, $2 name
INSERT INTO workspace (id, name) VALUES ($1, $2)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, created_at, bundle_digest
