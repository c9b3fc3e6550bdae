-- Every session of a person but one.
-- $1 user, $2 hash of the secret of the one that stays, or NULL
DELETE FROM browser_session WHERE user_id = $1 AND secret_hash IS DISTINCT FROM $2::bytea
