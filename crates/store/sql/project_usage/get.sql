-- $1 project
SELECT gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes FROM project_usage WHERE project_id = $1
