-- Membership: this scheduler lives until now + $2 seconds and is reached at $3. Answers the database's time, the only
-- clock for due times.
INSERT INTO scheduler (id, lease_until, address)
VALUES ($1::uuid, clock_timestamp() + make_interval(secs => $2::float8), $3::text)
ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until, address = EXCLUDED.address
RETURNING clock_timestamp() AS now
