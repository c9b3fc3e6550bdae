-- Ends that a scheduler of the version before left, oldest first. They are gone when the caller commits.
-- $1 limit
WITH taken AS (
    DELETE FROM run_end WHERE id IN (SELECT id FROM run_end ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING id, run_id, status, started_at, completed_at, former_end_at
)
SELECT * FROM taken ORDER BY id
