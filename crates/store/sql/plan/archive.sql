-- Takes a plan out of use, and from all projects. Hold its lock.
-- $1 id
WITH revoked AS (DELETE FROM project_plan WHERE plan_id = $1)
UPDATE plan SET archived_at = coalesce(archived_at, now()), version = version + 1 WHERE id = $1
