-- The quotas of projects $1, which nobody edits before the transaction ends.
SELECT project_id, gpu_milli, model_milli, cpu_milli, memory_bytes, storage_bytes, runtimes FROM project_policy
WHERE project_id = ANY ($1::uuid[]) ORDER BY project_id FOR SHARE
