-- $1 hash of the secret, $2 hash of the token against forged requests, $3 user, $4 lifetime in seconds, $5 what it came from
INSERT INTO browser_session (secret_hash, csrf_hash, user_id, expires_at, origin)
VALUES ($1, $2, $3, now() + make_interval(secs => $4), $5)
