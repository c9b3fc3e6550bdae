-- A person by the credential that was shown before; no row when it holds no more.
-- $1 user, $2 hash of the session's secret, or NULL, $3 token, or NULL
SELECT u.id, u.email, u.name, u.role, u.created_at, u.disabled_at IS NOT NULL, u.password_state
  FROM user_account u
 WHERE u.id = $1 AND u.disabled_at IS NULL
   AND ($2::bytea IS NULL OR EXISTS (
        SELECT 1 FROM browser_session s WHERE s.secret_hash = $2 AND s.user_id = u.id AND s.expires_at > now()))
   AND ($3::uuid IS NULL OR EXISTS (
        SELECT 1 FROM access_token t
         WHERE t.id = $3 AND t.user_id = u.id AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())))
