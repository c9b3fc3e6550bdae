-- Writes what projects hold, after `lock` in the same transaction.
-- $1 projects, $2 milli-GPU, $3 the same by model, $4 processor, $5 memory, $6 storage, $7 runtimes
UPDATE project_usage u SET gpu_milli = s.gpu_milli, model_milli = s.model_milli, cpu_milli = s.cpu_milli,
    memory_bytes = s.memory_bytes, storage_bytes = s.storage_bytes, runtimes = s.runtimes
FROM unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS s (project_id, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes)
WHERE u.project_id = s.project_id
