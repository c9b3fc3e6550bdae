-- The tokens of a trigger that hold, newest first; at most as many as a trigger may have.
-- $1 trigger, $2 limit
SELECT id, source, created_at, expires_at
  FROM trigger_token
 WHERE trigger_id = $1 AND (expires_at IS NULL OR expires_at > now())
 ORDER BY created_at DESC, id
 LIMIT $2
