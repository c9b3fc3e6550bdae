-- Ends every token of a person.
-- $1 user
UPDATE access_token SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL
