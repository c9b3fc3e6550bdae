-- A person's own quota, or everybody's; no row when nobody has set it.
-- $1 user, or the nil id for everybody's
SELECT version, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes
  FROM user_policy WHERE user_id = $1
