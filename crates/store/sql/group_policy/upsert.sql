-- $1 group, $2 root, $3 milli-GPU, $4 milli-GPU by model, $5 processor, $6 memory, $7 storage, $8 runtimes; the limits but $4 may
-- be NULL.
INSERT INTO group_policy (group_id, allow_root, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (group_id) DO UPDATE
   SET allow_root = $2, gpu_milli = $3, model_milli = $4, cpu_milli = $5, memory_bytes = $6, storage_bytes = $7,
       runtimes = $8, version = group_policy.version + 1
