-- Membership: this scheduler lives until now + $2 seconds, is reached at $3, and has so much to do: $4 units that could
-- start, $5 that run, $6 thousandths of its engine's time; $7 and $8 of those units are Kubernetes' alone. Answers the
-- database's time, the only clock for due times.
INSERT INTO scheduler (id, lease_until, address, ready_units, running_units, busy_permille, ready_units_kubernetes,
                       running_units_kubernetes)
VALUES ($1::uuid, clock_timestamp() + make_interval(secs => $2::float8), $3::text, $4::integer, $5::integer, $6::integer,
        $7::integer, $8::integer)
ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until, address = EXCLUDED.address,
    ready_units = EXCLUDED.ready_units, running_units = EXCLUDED.running_units, busy_permille = EXCLUDED.busy_permille,
    ready_units_kubernetes = EXCLUDED.ready_units_kubernetes,
    running_units_kubernetes = EXCLUDED.running_units_kubernetes
RETURNING clock_timestamp() AS now
