-- A group's policy; no row when nobody has set one.
-- $1 group
SELECT allow_root, version, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes
  FROM group_policy WHERE group_id = $1
