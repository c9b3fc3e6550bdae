-- Changes it and takes it back into use. Hold its lock.
-- $1 id, $2 models, $3 GPUs, $4 milli-GPU, $5 processor, $6 memory, $7 lifetime; the last five may be NULL
UPDATE plan SET models = $2, gpus_max = $3, gpu_milli_max = $4, cpu_milli_max = $5, memory_max = $6, lifetime_max_s = $7,
                version = version + 1, archived_at = NULL
 WHERE id = $1
RETURNING version
