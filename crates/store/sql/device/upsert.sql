-- Writes what executors say about devices; what is held of them stays as it is. One that has shrunk below what is held keeps
-- its former memory until that is free.
-- $1 JSON array of rows
INSERT INTO device (id, node_id, name, hardware_id, class, model, memory_bytes, sharing, link_group, healthy, condition)
SELECT d.id, d.node_id, d.name, d.hardware_id, d.class, d.model, d.memory_bytes, d.sharing, d.link_group, d.healthy, d.condition
FROM jsonb_to_recordset($1::jsonb) AS d (id uuid, node_id uuid, name text, hardware_id text, class text, model text,
    memory_bytes bigint, sharing jsonb, link_group integer, healthy boolean, condition text)
ORDER BY d.id
ON CONFLICT (id) DO UPDATE SET hardware_id = EXCLUDED.hardware_id, class = EXCLUDED.class, model = EXCLUDED.model,
    memory_bytes = greatest(EXCLUDED.memory_bytes, device.used_memory), sharing = EXCLUDED.sharing,
    link_group = EXCLUDED.link_group, healthy = EXCLUDED.healthy, condition = EXCLUDED.condition
