-- Forgets what ended before a time.
-- $1 the time, $2 limit
DELETE FROM notification WHERE id IN (SELECT id FROM notification WHERE ended_at < $1 ORDER BY id LIMIT $2)
