-- $1 name
SELECT id, name, created_at, bundle_digest FROM workspace WHERE name = $1
