-- What a new run of a pipeline starts from: the version in force, and the trigger by which people start it; and
-- whether its workspace is archived, which lets no new run in.
SELECT p.id, p.workspace_id, w.name AS workspace, w.archived_at IS NOT NULL AS archived, p.name, p.version, t.id AS trigger_id, t.name AS trigger
FROM pipeline p
JOIN workspace w ON w.id = p.workspace_id
JOIN trigger t ON t.pipeline_id = p.id AND t.kind = 'manual'
WHERE p.archived_at IS NULL AND (p.id = $1::uuid OR (p.workspace_id = $2::uuid AND p.name = $3::text))
