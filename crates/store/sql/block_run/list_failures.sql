-- Of each end of a run, the block that had failed first by then, with its error: not one that a later life has let fail.
-- $1 ends, $2 their runs, $3 when they ended: one entry each
SELECT DISTINCT ON (e.end_id) e.end_id, b.block, b.child, b.error
  FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[]) AS e (end_id, run_id, completed_at)
  JOIN block_run b ON b.run_id = e.run_id AND b.status = 'failed' AND b.completed_at <= e.completed_at
 ORDER BY e.end_id, b.completed_at, b.block, b.child
