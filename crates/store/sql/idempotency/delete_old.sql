-- Forgets the answers that are older than a number of days. Several servers may do so at once.
-- $1 days
DELETE FROM idempotency WHERE created_at < now() - make_interval(days => $1)
