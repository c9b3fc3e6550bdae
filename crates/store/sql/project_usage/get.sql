-- What a project holds: over all pools, and in volumes.
-- $1 project
SELECT coalesce(u.gpu_milli, 0), coalesce(u.model_milli, '{}'), coalesce(u.cpu_milli, 0), coalesce(u.memory_bytes, 0),
       coalesce(u.storage_bytes, 0), coalesce(u.runtimes, 0),
       (SELECT coalesce(sum(v.size_bytes), 0)::bigint FROM volume_that_counts v WHERE v.project_id = p.id)
  FROM project p LEFT JOIN project_usage u ON u.project_id = p.id
 WHERE p.id = $1
