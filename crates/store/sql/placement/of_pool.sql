-- The placements of pool $1.
SELECT holder, node_id, project_id, workspace_id, queue_id, state, cpu_milli, memory_bytes, effective_milli, storage_bytes, model,
       victims, created_at
FROM placement WHERE pool = $1::text ORDER BY holder
