-- Forgets what is over, up to a limit.
-- $1 limit
DELETE FROM browser_session WHERE secret_hash IN
    (SELECT secret_hash FROM browser_session WHERE expires_at < now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)
