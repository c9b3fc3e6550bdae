-- Places holders in pool $1, says for whose quota they count, and raises their nodes' sums by those that hold.
-- $2 JSON array of rows
WITH new AS (
    SELECT * FROM jsonb_to_recordset($2::jsonb) AS r (holder uuid, node_id uuid, project_id uuid, queue_id uuid, state text,
        cpu_milli bigint, memory_bytes bigint, effective_milli bigint, storage_bytes bigint, model text, victims uuid[],
        workspace_id uuid, user_id uuid)
), placed AS (
    INSERT INTO placement (holder, pool, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli,
        storage_bytes, model, victims, workspace_id)
    SELECT holder, $1::text, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli,
        storage_bytes, model, victims, workspace_id FROM new
), persons AS (
    INSERT INTO placement_user (holder, user_id) SELECT holder, user_id FROM new WHERE user_id IS NOT NULL
)
UPDATE node n SET cpu_used = n.cpu_used + s.cpu_milli, memory_used = n.memory_used + s.memory_bytes
FROM (SELECT node_id, sum(cpu_milli)::bigint AS cpu_milli, sum(memory_bytes)::bigint AS memory_bytes
      FROM new WHERE state = 'held' GROUP BY node_id) AS s
WHERE n.id = s.node_id
