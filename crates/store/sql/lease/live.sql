-- An owner of leases lives until now + $2 seconds; everything that it holds is prolonged by that. Owners that died long
-- ago are forgotten on the way.
WITH forgotten AS (
    DELETE FROM lease_owner WHERE lease_until < clock_timestamp() - interval '1 hour' AND id <> $1::uuid
)
INSERT INTO lease_owner (id, lease_until) VALUES ($1::uuid, clock_timestamp() + make_interval(secs => $2::float8))
ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until
