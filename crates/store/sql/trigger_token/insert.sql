-- A new token of a trigger. Nothing happens when it is there already.
-- $1 public id, $2 trigger, $3 hash, $4 source
INSERT INTO trigger_token (id, trigger_id, hash, source) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING
