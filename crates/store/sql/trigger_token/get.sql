-- The trigger and the hash of a token that holds.
-- $1 public id
SELECT trigger_id, hash FROM trigger_token WHERE id = $1 AND (expires_at IS NULL OR expires_at > now())
