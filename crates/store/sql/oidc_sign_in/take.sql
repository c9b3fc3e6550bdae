-- A sign-in can be finished once.
-- $1 key
DELETE FROM oidc_sign_in WHERE key_hash = $1 AND expires_at > now() RETURNING nonce, verifier
