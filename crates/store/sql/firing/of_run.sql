-- The firing of a run: both are written by one statement, at one time.
-- $1 trigger, $2 run
SELECT f.created_at, f.logical_key
  FROM run r
  JOIN firing f ON f.trigger_id = $1 AND f.created_at = r.created_at AND f.run_id = r.id
 WHERE r.id = $2
