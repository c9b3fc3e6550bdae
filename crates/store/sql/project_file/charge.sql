-- Counts files that a project puts into the store, each once: by digest and size, so that who announces a wrong size
-- gains nothing. The row of the total is locked until the transaction ends, so that of those who charge one project at
-- once the later one sees what the earlier one took.
-- $1 project, $2 digests, $3 their sizes, one entry each
WITH fresh AS (
    INSERT INTO project_file (project_id, sha256, size_bytes)
    SELECT $1, f.sha256, f.size_bytes FROM unnest($2::text[], $3::bigint[]) AS f (sha256, size_bytes) ORDER BY f.sha256
    ON CONFLICT DO NOTHING
    RETURNING size_bytes
), bytes AS (
    SELECT coalesce(sum(size_bytes), 0)::bigint AS fresh FROM fresh
)
INSERT INTO project_file_total (project_id, size_bytes)
SELECT $1, fresh FROM bytes
ON CONFLICT (project_id) DO UPDATE SET size_bytes = project_file_total.size_bytes + excluded.size_bytes
RETURNING (SELECT fresh FROM bytes)
