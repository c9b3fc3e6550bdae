-- What each project of groups $1 holds over all pools, and in volumes.
SELECT p.owner_group_id AS group_id, p.id AS project_id, coalesce(u.gpu_milli, 0) AS gpu_milli,
       coalesce(u.model_milli, '{}') AS model_milli, coalesce(u.cpu_milli, 0) AS cpu_milli,
       coalesce(u.memory_bytes, 0) AS memory_bytes, coalesce(u.storage_bytes, 0) AS storage_bytes,
       coalesce(u.runtimes, 0) AS runtimes,
       (SELECT coalesce(sum(v.size_bytes), 0)::bigint FROM volume_that_counts v WHERE v.project_id = p.id)
           AS volume_bytes
  FROM project p LEFT JOIN project_usage u ON u.project_id = p.id
 WHERE p.owner_group_id = ANY ($1::uuid[])
