-- What is held of devices $1, which nobody else changes before the transaction ends; locked in order of their ids.
SELECT id, memory_bytes, used_milli, used_memory, used_slots FROM device WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE
