-- What schedulers know of executors now. No index is touched by a heartbeat. A goodbye is the last word of a process: who is
-- gone stays so, whatever a scheduler that did not hear it says later. Nothing runs on one that is not there.
INSERT INTO executor (id, name, backend, slots, version, state, running, last_seen_at)
SELECT e.id, e.name, e.backend, e.slots, e.version, e.state,
    CASE WHEN e.state IN ('lost', 'gone') THEN 0 ELSE e.running END, clock_timestamp()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::integer[])
    AS e (id, name, backend, slots, version, state, running)
ORDER BY e.id
ON CONFLICT (id) DO UPDATE SET slots = EXCLUDED.slots,
    running = CASE WHEN executor.state = 'gone' THEN 0 ELSE EXCLUDED.running END,
    state = CASE WHEN executor.state = 'gone' THEN executor.state ELSE EXCLUDED.state END,
    last_seen_at = CASE WHEN EXCLUDED.state IN ('lost', 'gone') THEN executor.last_seen_at ELSE EXCLUDED.last_seen_at END
