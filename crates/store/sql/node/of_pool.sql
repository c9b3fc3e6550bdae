-- The nodes of pool $1.
SELECT id, name, zone, cpu_milli, memory_bytes, state FROM node WHERE pool = $1::text ORDER BY id
