-- Some children of a block in index order. One without a row has not started, and has no status.
-- $1 run, $2 block, $3 first index, $4 last index
SELECT $2::text, c.child, b.status, coalesce(b.attempts, 0), b.started_at, b.completed_at, b.not_before,
       b.not_before IS NOT NULL AND b.not_before > now(), coalesce(e.name, b.executor_id::text, ''),
       b.output, b.error, b.children
  FROM generate_series($3::integer, $4::integer) AS c (child)
  LEFT JOIN block_run b ON b.run_id = $1 AND b.block = $2 AND b.child = c.child
  LEFT JOIN executor e ON e.id = b.executor_id
 ORDER BY c.child
