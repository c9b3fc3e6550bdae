-- A page of executors, the latest to connect first.
-- $1 and $2 connected_at and id of the last one of the page before, $3 limit
SELECT id, name, backend, state, slots, running, connected_at, last_seen_at, version
  FROM executor
 WHERE (connected_at, id) < ($1, $2)
 ORDER BY connected_at DESC, id DESC
 LIMIT $3
