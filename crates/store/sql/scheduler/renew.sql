-- Membership: this scheduler lives until now + $2 seconds. Answers the database's time, the only clock for due times.
INSERT INTO scheduler (id, lease_until) VALUES ($1::uuid, clock_timestamp() + make_interval(secs => $2::float8))
ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until
RETURNING clock_timestamp() AS now
