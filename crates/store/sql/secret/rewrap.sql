-- The same value with its key sealed by another one. Readers meanwhile see the one or the other whole.
-- $1 id, $2 version, $3 id of the key, $4 wrapped key
UPDATE secret SET key_id = $3, wrapped_key = $4 WHERE id = $1 AND version = $2
