-- A page of a person's tokens, newest first.
-- $1 user, $2 id of the last one of the page before, $3 limit
SELECT id, name, prefix, created_at, expires_at, last_used_at, revoked_at, origin FROM access_token WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
