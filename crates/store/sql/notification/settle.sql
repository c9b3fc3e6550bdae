-- What became of an attempt, unless a later one was begun.
-- What is put back without an error was no attempt.
-- $1 notification, $2 the attempt, $3 status, $4 error or NULL, $5 seconds until the next try
UPDATE notification
   SET status = $3, error = $4, not_before = now() + make_interval(secs => $5),
       attempts = attempts - CASE WHEN $3 = 'pending' AND $4::text IS NULL THEN 1 ELSE 0 END,
       ended_at = CASE WHEN $3 = 'pending' THEN NULL ELSE now() END
 WHERE id = $1 AND attempts = $2 AND status = 'pending'
