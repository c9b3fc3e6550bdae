-- Gives owner $1 those names of $2 that nobody holds, or that an owner holds whose time is over. Nothing is written for
-- names that it holds already. Rows are locked in the order of their names.
INSERT INTO lease AS l (name, owner)
SELECT n.name, $1::uuid
FROM (SELECT DISTINCT unnest($2::text[]) AS name ORDER BY 1) AS n
WHERE NOT EXISTS (
    SELECT FROM lease h JOIN lease_owner o ON o.id = h.owner
    WHERE h.name = n.name AND o.lease_until > clock_timestamp()
)
ON CONFLICT (name) DO UPDATE SET owner = EXCLUDED.owner
WHERE NOT EXISTS (SELECT FROM lease_owner o WHERE o.id = l.owner AND o.lease_until > clock_timestamp())
