-- Ends every token of a person that a sign-in by password made, but one.
-- $1 user, $2 the token that stays, or NULL
UPDATE access_token SET revoked_at = now()
 WHERE user_id = $1 AND origin = 'password' AND revoked_at IS NULL AND id IS DISTINCT FROM $2::uuid
