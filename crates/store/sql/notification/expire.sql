-- Gives up what has waited for too long, tried or not; its row tells of it. What somebody is sending now is left alone.
-- $1 before this time, $2 what is told of it, $3 limit
UPDATE notification
   SET status = 'failed', ended_at = now(), error = $2 || coalesce('; the last try: ' || error, '')
 WHERE id IN (SELECT id FROM notification WHERE status = 'pending' AND created_at < $1 AND not_before <= now()
               ORDER BY created_at LIMIT $3::bigint FOR UPDATE SKIP LOCKED)
