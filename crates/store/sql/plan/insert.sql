-- No row when the name is taken meanwhile.
-- $1 id, $2 name, $3 models, $4 GPUs, $5 milli-GPU, $6 processor, $7 memory, $8 lifetime; the last five may be NULL
INSERT INTO plan (id, name, models, gpus_max, gpu_milli_max, cpu_milli_max, memory_max, lifetime_max_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING version
