-- What projects $1 hold over all pools, which nobody else changes before the transaction ends; locked in order of their ids.
SELECT project_id, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes FROM project_usage
WHERE project_id = ANY ($1::uuid[]) ORDER BY project_id FOR UPDATE
