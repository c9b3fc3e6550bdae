-- Sessions of a person that are in force, newest first. The id is the beginning of a hash: it opens nothing.
-- $1 user, $2 limit
SELECT encode(substring(secret_hash FROM 1 FOR 8), 'hex'), origin, created_at, expires_at, secret_hash
  FROM browser_session WHERE user_id = $1 AND expires_at > now() ORDER BY created_at DESC, secret_hash LIMIT $2
