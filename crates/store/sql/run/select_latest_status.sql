-- The status of a pipeline's latest run (or of block $3 in it) with an execution date in the $5 seconds up to $4, and which version it runs.
-- No row when there is no such run.
SELECT CASE WHEN $3::text IS NULL THEN r.status
            ELSE coalesce((SELECT b.status FROM block_run b WHERE b.run_id = r.id AND b.block = $3::text AND b.child = -1), 'initial')
       END AS status, r.pipeline_id, r.pipeline_version
FROM run r
JOIN pipeline p ON p.id = r.pipeline_id
WHERE p.workspace_id = $1::uuid AND p.name = $2::text
  AND r.execution_date <= $4::timestamptz AND r.execution_date >= $4::timestamptz - make_interval(secs => $5::float8)
ORDER BY r.execution_date DESC, r.id DESC
LIMIT 1
