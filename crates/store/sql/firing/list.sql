-- A page of the firings of a trigger, newest first.
-- $1 trigger, $2 and $3 time and key of the last row of the page before, $4 limit
SELECT logical_key, decided, reason, run_id, created_at, execution_date, last_date, times, coalesce(trigger_version, 0)
  FROM firing
 WHERE trigger_id = $1 AND (created_at, logical_key) < ($2, $3)
 ORDER BY created_at DESC, logical_key DESC
 LIMIT $4
