-- Remembers a sign-in that begins, for some minutes, and forgets those that were left.
-- $1 key, $2 nonce, $3 verifier, $4 lifetime in seconds
WITH forgotten AS (DELETE FROM oidc_sign_in WHERE expires_at < now())
INSERT INTO oidc_sign_in (key_hash, nonce, verifier, expires_at) VALUES ($1, $2, $3, now() + make_interval(secs => $4))
