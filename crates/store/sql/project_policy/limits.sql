-- What projects $1 may hold and for how long, what they hold over all pools, and how many of their runtimes may still be
-- stopped for others within this hour.
SELECT p.project_id, p.gpu_milli, p.model_milli, p.cpu_milli, p.memory_bytes, p.runtimes, p.idle_timeout_max_s, p.lifetime_max_s,
       coalesce(u.gpu_milli, 0) AS used_gpu_milli, coalesce(u.model_milli, '{}') AS used_model_milli,
       coalesce(u.cpu_milli, 0) AS used_cpu_milli, coalesce(u.memory_bytes, 0) AS used_memory_bytes,
       coalesce(u.runtimes, 0) AS used_runtimes,
       p.disruptions_per_hour - (
           SELECT count(*)::integer FROM runtime_event e JOIN workspace w ON w.id = e.workspace_id
           WHERE e.reason = 'PREEMPTED' AND e.state = 'stopping' AND e.at > now() - interval '1 hour' AND w.project_id = p.project_id
       ) AS disruptions_left
FROM project_policy p LEFT JOIN project_usage u ON u.project_id = p.project_id
WHERE p.project_id = ANY ($1::uuid[])
