-- The quotas of the groups that own projects $1, which nobody else edits or gives anything of before the transaction ends: after
-- the lock of project_usage, and locked in order of their ids.
SELECT g.group_id, g.gpu_milli, g.model_milli, g.cpu_milli, g.memory_bytes, g.storage_bytes, g.runtimes
  FROM group_policy g
 WHERE g.group_id IN (SELECT p.owner_group_id FROM project p WHERE p.id = ANY ($1::uuid[]))
   AND (num_nonnulls(g.gpu_milli, g.cpu_milli, g.memory_bytes, g.storage_bytes, g.runtimes) > 0 OR g.model_milli <> '{}')
 ORDER BY g.group_id FOR UPDATE OF g
