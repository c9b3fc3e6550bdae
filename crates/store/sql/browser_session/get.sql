-- A session that is in force, and whose it is.
-- $1 hash of the secret
SELECT u.id, u.email, u.name, u.role, u.created_at, u.disabled_at IS NOT NULL, u.password_state, s.csrf_hash, s.origin
  FROM browser_session s JOIN user_account u ON u.id = s.user_id
 WHERE s.secret_hash = $1 AND s.expires_at > now() AND u.disabled_at IS NULL
