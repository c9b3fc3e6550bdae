-- The quotas of projects $1, which nobody edits before the transaction ends, and what their volumes take of them: after the
-- lock of project_usage, which whoever creates or grows a volume holds.
SELECT y.project_id, y.gpu_milli, y.model_milli, y.cpu_milli, y.memory_bytes, y.storage_bytes, y.runtimes,
       (SELECT coalesce(sum(v.size_bytes), 0)::bigint FROM volume_that_counts v WHERE v.project_id = y.project_id)
           AS volume_bytes
  FROM project_policy y
 WHERE y.project_id = ANY ($1::uuid[]) ORDER BY y.project_id FOR SHARE OF y
