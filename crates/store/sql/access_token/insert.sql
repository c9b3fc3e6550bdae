-- A token of a person: no row when there are too many that are in force, a row of NULLs when one begins so already.
-- $1 id, $2 user, $3 name, $4 prefix, $5 hash of the secret, $6 lifetime in seconds or NULL for ever, $7 the most,
-- $8 what it came from
WITH room AS (
    SELECT 1 WHERE (SELECT count(*) FROM access_token
                     WHERE user_id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) < $7
), added AS (
    INSERT INTO access_token (id, user_id, name, prefix, secret_hash, expires_at, origin)
    SELECT $1, $2, $3, $4, $5, now() + make_interval(secs => $6), $8 FROM room
    ON CONFLICT (prefix) DO NOTHING
    RETURNING id, name, prefix, created_at, expires_at, last_used_at, revoked_at, origin
)
SELECT a.id, a.name, a.prefix, a.created_at, a.expires_at, a.last_used_at, a.revoked_at, a.origin FROM room LEFT JOIN added a ON true
