-- Counts the block runs that ended in these lives of runs, children and callbacks included. A life that never started is all
-- that came after the end of the life before, and of a first one all there is. What a later life has done by now is that one's.
-- $1 run, $2 workspace, $3 pipeline, $4 start or NULL, $5 end of the life before or NULL, $6 end: one entry each
INSERT INTO block_stat AS s (workspace_id, day, pipeline_id, block, status, bucket, runs, total_ms, longest_ms)
SELECT e.workspace_id, (b.completed_at AT TIME ZONE 'UTC')::date, e.pipeline_id, b.block, b.status,
       least(floor(4 * ln(greatest(d.ms, 1)) / ln(2.0)), 127)::smallint, count(*), sum(d.ms), max(d.ms)
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
       AS e (run_id, workspace_id, pipeline_id, started_at, former_end_at, completed_at)
  JOIN block_run b ON b.run_id = e.run_id AND b.completed_at <= e.completed_at
                  AND CASE WHEN e.started_at IS NOT NULL THEN b.completed_at >= e.started_at
                           ELSE e.former_end_at IS NULL OR b.completed_at > e.former_end_at END
 CROSS JOIN LATERAL (SELECT greatest(1000 * extract(epoch FROM b.completed_at - coalesce(b.started_at, b.completed_at)), 0)::float8 AS ms) d
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
ON CONFLICT (workspace_id, day, pipeline_id, block, status, bucket) DO UPDATE SET
       runs = s.runs + EXCLUDED.runs, total_ms = s.total_ms + EXCLUDED.total_ms,
       longest_ms = greatest(s.longest_ms, EXCLUDED.longest_ms)
