-- Who holds what of the devices of pool $1.
SELECT g.device_id, g.holder, g.state, g.milli, g.memory_bytes, g.slots
FROM grant_of_device g JOIN placement p ON p.holder = g.holder
WHERE p.pool = $1::text ORDER BY g.holder, g.device_id
