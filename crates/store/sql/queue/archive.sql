-- Takes a queue out of use, and out of all plans. Hold its lock.
-- $1 id
WITH unbound AS (DELETE FROM plan_queue WHERE queue_id = $1)
UPDATE queue SET archived_at = coalesce(archived_at, now()), version = version + 1 WHERE id = $1
