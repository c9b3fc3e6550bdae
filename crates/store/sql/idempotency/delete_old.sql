-- Forgets answers that are older than a number of days, the oldest first, up to a limit. Several servers may do so at once:
-- each takes others.
-- $1 days, $2 limit
WITH old AS (
    SELECT ctid FROM idempotency WHERE created_at < now() - make_interval(days => $1)
     ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency i USING old WHERE i.ctid = old.ctid
