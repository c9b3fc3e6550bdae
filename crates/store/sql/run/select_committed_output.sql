-- Where the committed output of block $3 of pipeline $2 in workspace $1 lies: of run $4, or of the latest run in which it
-- completed. One whose outputs are gone has none.
SELECT b.run_id, b.lease, v.bundle_digest
FROM run r
JOIN pipeline p ON p.id = r.pipeline_id
JOIN pipeline_version v ON v.pipeline_id = r.pipeline_id AND v.version = r.pipeline_version
JOIN block_run b ON b.run_id = r.id AND b.block = $3::text AND b.child = -1 AND b.status = 'completed'
WHERE p.workspace_id = $1::uuid AND p.name = $2::text AND r.outputs_expired_at IS NULL
  AND (r.id = $4::uuid OR ($4::uuid IS NULL AND r.status = 'completed'))
ORDER BY r.id DESC
LIMIT 1
