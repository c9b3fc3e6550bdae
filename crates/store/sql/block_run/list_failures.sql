-- Of each run, the block that failed first, with its error.
-- $1 runs
SELECT DISTINCT ON (run_id) run_id, block, child, error
  FROM block_run
 WHERE run_id = ANY ($1::uuid[]) AND status = 'failed'
 ORDER BY run_id, completed_at, block, child
