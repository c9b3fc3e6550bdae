-- Creates a workspace; no row when the name is taken.
-- $1 id, $2 name, $3 project
INSERT INTO workspace (id, name, project_id) VALUES ($1, $2, $3)
ON CONFLICT (name) DO NOTHING
RETURNING id
