-- A page by name.
-- $1 last name of the page before, $2 limit
SELECT id, name, created_at, bundle_digest FROM workspace WHERE name > $1 ORDER BY name LIMIT $2
