-- The placements of pool $1.
SELECT p.holder, p.node_id, p.project_id, p.workspace_id, p.queue_id, p.state, p.cpu_milli, p.memory_bytes, p.effective_milli,
       p.storage_bytes, p.model, p.victims, p.created_at, u.user_id
FROM placement p LEFT JOIN placement_user u ON u.holder = p.holder
WHERE p.pool = $1::text ORDER BY p.holder
