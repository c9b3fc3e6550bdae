-- One deployment of a workspace at a time: the row is locked until the transaction ends.
-- $1 name
SELECT id, name, created_at, bundle_digest FROM workspace WHERE name = $1 FOR UPDATE
