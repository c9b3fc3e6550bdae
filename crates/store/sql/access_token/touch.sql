-- Notes the use of a token, at most once in five minutes.
-- $1 id
UPDATE access_token SET last_used_at = now()
 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '5 minutes')
