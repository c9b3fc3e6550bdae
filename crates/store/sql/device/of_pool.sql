-- The devices of pool $1, with what is held of them.
SELECT d.id, d.node_id, d.name, d.hardware_id, d.class, d.model, d.memory_bytes, d.sharing, d.link_group, d.healthy, d.condition,
       d.used_milli, d.used_memory, d.used_slots
FROM device d JOIN node n ON n.id = d.node_id
WHERE n.pool = $1::text ORDER BY d.id
