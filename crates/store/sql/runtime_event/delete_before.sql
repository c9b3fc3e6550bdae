-- Forgets what happened before a time. Ids ascend as times do, but for transactions that overlap.
-- $1 the time, $2 limit
DELETE FROM runtime_event
 WHERE id = ANY (ARRAY(SELECT id FROM runtime_event ORDER BY id LIMIT $2::bigint)) AND at < $1::timestamptz
