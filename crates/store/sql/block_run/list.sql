-- The blocks of a run that have a row, without their children; as many as the pipeline has blocks and callbacks.
-- $1 run
SELECT b.block, b.child, b.status, b.attempts, b.started_at, b.completed_at, b.not_before,
       b.not_before IS NOT NULL AND b.not_before > now(), coalesce(e.name, b.executor_id::text, ''),
       b.output, b.error, b.children
  FROM block_run b
  LEFT JOIN executor e ON e.id = b.executor_id
 WHERE b.run_id = $1 AND b.child = -1
