-- A page of executors, the latest to connect first. Nothing runs on one that is not there, whatever an older row says.
-- $1 and $2 connected_at and id of the last one of the page before, $3 limit
SELECT id, name, backend, state, slots, CASE WHEN state IN ('online', 'draining') THEN running ELSE 0 END,
       connected_at, last_seen_at, version
  FROM executor
 WHERE (connected_at, id) < ($1, $2)
 ORDER BY connected_at DESC, id DESC
 LIMIT $3
