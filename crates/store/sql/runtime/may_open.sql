-- Whether a person may open the application of a workspace now, by the sign-in or the token that was shown.
-- $1 user, $2 workspace, $3 hash of the session's secret, or NULL, $4 token, or NULL, $5 rank that is needed,
-- $6 roles over the whole cluster that have it
SELECT EXISTS (
    SELECT 1 FROM user_account u
     WHERE u.id = $1 AND u.disabled_at IS NULL
       AND (u.role = ANY ($6::text[])
            OR EXISTS (SELECT 1 FROM workspace_access a WHERE a.user_id = u.id AND a.workspace_id = $2 AND a.rank >= $5))
       AND ($3::bytea IS NULL OR EXISTS (
            SELECT 1 FROM browser_session s WHERE s.secret_hash = $3 AND s.user_id = u.id AND s.expires_at > now()))
       AND ($4::uuid IS NULL OR EXISTS (
            SELECT 1 FROM access_token t
             WHERE t.id = $4 AND t.user_id = u.id AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())))
)
