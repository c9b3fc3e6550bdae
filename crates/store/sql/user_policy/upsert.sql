-- $1 user, or the nil id for everybody who has none, $2 milli-GPU, $3 milli-GPU by model, $4 processor, $5 memory, $6 storage,
-- $7 runtimes; the limits but $3 may be NULL.
INSERT INTO user_policy (user_id, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (user_id) DO UPDATE
   SET gpu_milli = $2, model_milli = $3, cpu_milli = $4, memory_bytes = $5, storage_bytes = $6, runtimes = $7,
       version = user_policy.version + 1
