-- Ends every token of a person that a sign-in at a provider made.
-- $1 user
UPDATE access_token SET revoked_at = now() WHERE user_id = $1 AND origin = 'elsewhere' AND revoked_at IS NULL
