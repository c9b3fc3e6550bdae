-- Grants shares of devices, and raises the devices' sums by those that are held. The table's checks refuse what would be
-- too much.
-- $1 JSON array of rows
WITH new AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS r (device_id uuid, holder uuid, state text, milli integer, memory_bytes bigint, slots bigint)
), granted AS (
    INSERT INTO grant_of_device (device_id, holder, state, milli, memory_bytes, slots)
    SELECT device_id, holder, state, milli, memory_bytes, slots FROM new
)
UPDATE device d SET used_milli = d.used_milli + s.milli, used_memory = d.used_memory + s.memory_bytes,
    used_slots = d.used_slots | s.slots, version = d.version + 1
FROM (SELECT device_id, sum(milli)::integer AS milli, sum(memory_bytes)::bigint AS memory_bytes, bit_or(slots) AS slots
      FROM new WHERE state = 'held' GROUP BY device_id) AS s
WHERE d.id = s.device_id
