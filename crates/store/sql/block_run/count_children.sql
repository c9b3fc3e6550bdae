-- How far the dynamic children of each block of a run are.
-- $1 run
SELECT block,
       count(*) FILTER (WHERE status = 'completed')::integer,
       count(*) FILTER (WHERE status IN ('failed', 'upstream_failed'))::integer
  FROM block_run
 WHERE run_id = $1 AND child >= 0
 GROUP BY block
