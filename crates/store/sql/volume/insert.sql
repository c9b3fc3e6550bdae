-- Makes a volume; no row where the project has one of that name.
-- $1 id, $2 project, $3 name, $4 pool, $5 size, $6 storage class, $7 who
INSERT INTO volume (id, project_id, name, pool, size_bytes, storage_class, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (project_id, name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id
