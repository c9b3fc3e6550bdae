-- Lets the other tokens of a trigger expire, those that do not expire sooner, and drops what has expired.
-- $1 trigger, $2 ids of the one that stays, $3 in how many seconds
WITH gone AS (DELETE FROM trigger_token WHERE trigger_id = $1 AND expires_at <= now())
UPDATE trigger_token
   SET expires_at = least(coalesce(expires_at, 'infinity'), now() + make_interval(secs => $3))
 WHERE trigger_id = $1 AND id <> ALL ($2::text[]) AND (expires_at IS NULL OR expires_at > now())
