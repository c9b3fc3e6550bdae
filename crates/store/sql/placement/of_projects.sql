-- What projects $1 hold over all pools, without those who leave already or wait for others to: whoever was placed last comes first.
SELECT holder, project_id, cpu_milli, memory_bytes, effective_milli, storage_bytes, model
FROM placement WHERE project_id = ANY ($1::uuid[]) AND state = 'held'
ORDER BY project_id, created_at DESC, holder
