-- Takes back what holders $1 have, and lowers the sums of devices and nodes by it. A holder whose placement is gone already
-- changes nothing: capacity comes back once, and is counted once. Answers what they had.
WITH gone AS (
    DELETE FROM placement WHERE holder = ANY ($1::uuid[])
    RETURNING holder, node_id, project_id, state, cpu_milli, memory_bytes, effective_milli, storage_bytes, model
), grants AS (
    DELETE FROM grant_of_device g USING gone WHERE g.holder = gone.holder
    RETURNING g.device_id, g.state, g.milli, g.memory_bytes, g.slots
), devices AS (
    UPDATE device d SET used_milli = d.used_milli - s.milli, used_memory = d.used_memory - s.memory_bytes,
        used_slots = d.used_slots & ~s.slots, version = d.version + 1
    FROM (SELECT device_id, sum(milli)::integer AS milli, sum(memory_bytes)::bigint AS memory_bytes, bit_or(slots) AS slots
          FROM grants WHERE state = 'held' GROUP BY device_id) AS s
    WHERE d.id = s.device_id
), nodes AS (
    UPDATE node n SET cpu_used = n.cpu_used - s.cpu_milli, memory_used = n.memory_used - s.memory_bytes
    FROM (SELECT node_id, sum(cpu_milli)::bigint AS cpu_milli, sum(memory_bytes)::bigint AS memory_bytes
          FROM gone WHERE state <> 'nominated' GROUP BY node_id) AS s
    WHERE n.id = s.node_id
), counted AS (
    INSERT INTO gpu_usage (holder, held_at, freed_at, project_id, queue_id, workspace_id, person_id, model, gpu_milli)
    SELECT h.holder, h.held_at, now(), h.project_id, h.queue_id, h.workspace_id, h.person_id, h.model, h.gpu_milli
    FROM gpu_held h JOIN gone USING (holder)
    WHERE h.holder = ANY ($1::uuid[]) AND h.held_at < now()
    ON CONFLICT (holder, held_at) DO NOTHING
)
SELECT holder, project_id, cpu_milli, memory_bytes, effective_milli, storage_bytes, model FROM gone
