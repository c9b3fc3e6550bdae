-- Ends a token of a person; no row when there is none. Twice is no error.
-- $1 user, $2 id as text, or prefix
UPDATE access_token SET revoked_at = coalesce(revoked_at, now())
 WHERE user_id = $1 AND (id::text = $2 OR prefix = $2)
RETURNING id
