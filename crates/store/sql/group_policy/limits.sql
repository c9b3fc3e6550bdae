-- The quotas of groups $1; those without limits are left out.
SELECT g.group_id, g.gpu_milli, g.model_milli, g.cpu_milli, g.memory_bytes, g.storage_bytes, g.runtimes
  FROM group_policy g
 WHERE g.group_id = ANY ($1::uuid[])
   AND (num_nonnulls(g.gpu_milli, g.cpu_milli, g.memory_bytes, g.storage_bytes, g.runtimes) > 0 OR g.model_milli <> '{}')
