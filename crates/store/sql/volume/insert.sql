-- Makes a volume; no row where the project has one of that name.
-- $1 id, $2 project, $3 name, $4 pool, $5 size, $6 who
INSERT INTO volume (id, project_id, name, pool, size_bytes, created_by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (project_id, name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id
