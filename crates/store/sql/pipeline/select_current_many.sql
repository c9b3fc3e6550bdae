-- What new runs of these pipelines ($1) start from: as pipeline/select_current.sql.
SELECT p.id, p.workspace_id, w.name AS workspace, w.archived_at IS NOT NULL AS archived, p.name, p.version, t.id AS trigger_id, t.name AS trigger
FROM pipeline p
JOIN workspace w ON w.id = p.workspace_id
JOIN trigger t ON t.pipeline_id = p.id AND t.kind = 'manual'
WHERE p.archived_at IS NULL AND p.id = ANY ($1::uuid[])
