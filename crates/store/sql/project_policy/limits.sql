-- What runtimes of projects $1 may be, what they may hold and for how long, from when on whoever holds more is stopped, what they hold over all pools and
-- in volumes, and how many of their runtimes may still be stopped for others within this hour.
SELECT p.project_id, p.gpu_milli, p.model_milli, p.cpu_milli, p.memory_bytes, p.storage_bytes, p.runtimes,
       p.idle_timeout_max_s, p.lifetime_max_s, p.images, p.allow_root,
       CASE WHEN j.owner_group_id IS NOT NULL THEN coalesce(g.allow_root, false) END AS group_allows_root,
       coalesce(u.gpu_milli, 0) AS used_gpu_milli, coalesce(u.model_milli, '{}') AS used_model_milli,
       coalesce(u.cpu_milli, 0) AS used_cpu_milli, coalesce(u.memory_bytes, 0) AS used_memory_bytes,
       coalesce(u.storage_bytes, 0) AS used_storage_bytes, coalesce(u.runtimes, 0) AS used_runtimes,
       (SELECT coalesce(sum(v.size_bytes), 0)::bigint FROM volume_that_counts v WHERE v.project_id = p.project_id)
           AS volume_bytes,
       CASE WHEN p.over_quota_grace_s IS NOT NULL THEN p.quota_set_at + make_interval(secs => p.over_quota_grace_s) END
           AS over_quota_until,
       p.disruptions_per_hour - (
           SELECT count(*)::integer FROM runtime_event e JOIN workspace w ON w.id = e.workspace_id
           WHERE e.reason = 'PREEMPTED' AND e.state = 'stopping' AND e.at > now() - interval '1 hour' AND w.project_id = p.project_id
       ) AS disruptions_left
FROM project_policy p JOIN project j ON j.id = p.project_id
LEFT JOIN group_policy g ON g.group_id = j.owner_group_id
LEFT JOIN project_usage u ON u.project_id = p.project_id
WHERE p.project_id = ANY ($1::uuid[])
