-- A token that is in force, and whose it is. What is compared is the hash, by the caller, in constant time.
-- $1 prefix
SELECT u.id, u.email, u.name, u.role, u.created_at, u.disabled_at IS NOT NULL, u.password_state, t.id, t.secret_hash, coalesce(t.last_used_at < now() - interval '5 minutes', true), t.origin
  FROM access_token t JOIN user_account u ON u.id = t.user_id
 WHERE t.prefix = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
   AND u.disabled_at IS NULL
