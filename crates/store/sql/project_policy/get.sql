-- A project's policy, or its absence, with the word and the quota of the group that owns it.
-- $1 project
SELECT coalesce(y.images, '{}'), coalesce(y.allow_root, false), y.gpu_milli, coalesce(y.model_milli, '{}'), y.cpu_milli,
       y.memory_bytes, y.storage_bytes, y.runtimes, y.disruptions_per_hour, y.idle_timeout_max_s, y.lifetime_max_s,
       coalesce(y.version, 0), y.over_quota_grace_s,
       CASE WHEN p.owner_group_id IS NOT NULL THEN coalesce(g.allow_root, false) END,
       g.gpu_milli, coalesce(g.model_milli, '{}'), g.cpu_milli, g.memory_bytes, g.storage_bytes, g.runtimes
  FROM project p
  LEFT JOIN project_policy y ON y.project_id = p.id
  LEFT JOIN group_policy g ON g.group_id = p.owner_group_id
 WHERE p.id = $1
