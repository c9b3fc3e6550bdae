-- Ends that nobody has taken, of so many batches, oldest first. They are gone when the caller commits.
-- $1 limit of batches
WITH taken AS (
    DELETE FROM run_end_batch WHERE id IN (SELECT id FROM run_end_batch ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING id, run_ids, statuses, started_ats, completed_ats, former_end_ats
)
SELECT * FROM taken ORDER BY id
