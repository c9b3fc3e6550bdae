-- Lets the other tokens of a trigger expire, those that do not expire sooner, and drops what has expired; but not the one of the
-- project's file: the file still has it, and the next deployment would bring it back to life.
-- $1 trigger, $2 ids of the one that stays, $3 in how many seconds
WITH gone AS (DELETE FROM trigger_token WHERE trigger_id = $1 AND expires_at <= now() AND source <> 'project')
UPDATE trigger_token
   SET expires_at = least(coalesce(expires_at, 'infinity'), now() + make_interval(secs => $3))
 WHERE trigger_id = $1 AND id <> ALL ($2::text[]) AND (expires_at IS NULL OR expires_at > now())
