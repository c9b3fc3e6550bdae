-- Hold the project's lock.
-- $1 project, $2 images, $3 root, $4 milli-GPU, $5 milli-GPU by model, $6 processor, $7 memory, $8 storage, $9 runtimes,
-- $10 disruptions per hour, $11 longest idle time-out, $12 longest lifetime,
-- $13 seconds after which whoever holds more than a smaller quota is stopped; the limits but $5 may be NULL. The grace begins
-- with the latest change of a quota or of the grace itself.
INSERT INTO project_policy (project_id, images, allow_root, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes,
                            runtimes, disruptions_per_hour, idle_timeout_max_s, lifetime_max_s, over_quota_grace_s,
                            quota_set_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now())
ON CONFLICT (project_id) DO UPDATE
   SET images = $2, allow_root = $3, gpu_milli = $4, model_milli = $5, cpu_milli = $6, memory_bytes = $7, storage_bytes = $8,
       runtimes = $9, disruptions_per_hour = $10, idle_timeout_max_s = $11, lifetime_max_s = $12,
       over_quota_grace_s = $13, version = project_policy.version + 1,
       quota_set_at = CASE
           WHEN (project_policy.gpu_milli, project_policy.model_milli, project_policy.cpu_milli, project_policy.memory_bytes,
                 project_policy.storage_bytes, project_policy.runtimes, project_policy.over_quota_grace_s)
                IS DISTINCT FROM ($4::bigint, $5::jsonb, $6::bigint, $7::bigint, $8::bigint, $9::bigint, $13::integer)
           THEN now() ELSE project_policy.quota_set_at END
RETURNING version
