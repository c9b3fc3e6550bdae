-- What schedulers know of executors now. No index is touched by a heartbeat.
INSERT INTO executor (id, name, backend, slots, version, state, running, last_seen_at)
SELECT e.id, e.name, e.backend, e.slots, e.version, e.state, e.running, clock_timestamp()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::integer[])
    AS e (id, name, backend, slots, version, state, running)
ORDER BY e.id
ON CONFLICT (id) DO UPDATE SET slots = EXCLUDED.slots, state = EXCLUDED.state, running = EXCLUDED.running,
    last_seen_at = CASE WHEN EXCLUDED.state IN ('lost', 'gone') THEN executor.last_seen_at ELSE EXCLUDED.last_seen_at END
