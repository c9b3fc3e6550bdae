-- Writes what executors say about nodes of pool $1; what is held of them stays as it is.
-- $2 ids, $3 names, $4 zones, $5 processors, $6 memories, $7 states
INSERT INTO node (id, pool, name, zone, cpu_milli, memory_bytes, state)
SELECT n.id, $1::text, n.name, n.zone, n.cpu_milli, n.memory_bytes, n.state
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[])
    AS n (id, name, zone, cpu_milli, memory_bytes, state)
ORDER BY n.id
ON CONFLICT (id) DO UPDATE SET zone = EXCLUDED.zone, cpu_milli = EXCLUDED.cpu_milli, memory_bytes = EXCLUDED.memory_bytes,
    state = EXCLUDED.state
