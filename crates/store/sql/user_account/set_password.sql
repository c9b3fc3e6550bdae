-- A new password over the one that was compared: somebody else's change meanwhile is not overwritten.
-- $1 id, $2 new hash, $3 new state, $4 the hash that was compared, or NULL to overwrite any
UPDATE user_account SET password_hash = $2, password_state = $3
 WHERE id = $1 AND ($4::text IS NULL OR password_hash = $4)
