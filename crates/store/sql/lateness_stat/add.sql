-- Counts how late runs were created.
-- $1 workspace, $2 pipeline, $3 trigger, $4 when it was created, $5 when it was due: one entry for each run
INSERT INTO lateness_stat AS s (workspace_id, day, pipeline_id, trigger_id, bucket, runs, total_ms, longest_ms)
SELECT e.workspace_id, (e.created_at AT TIME ZONE 'UTC')::date, e.pipeline_id, e.trigger_id,
       least(floor(4 * ln(greatest(d.ms, 1)) / ln(2.0)), 127)::smallint, count(*), sum(d.ms), max(d.ms)
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[])
       AS e (workspace_id, pipeline_id, trigger_id, created_at, execution_date)
 CROSS JOIN LATERAL (SELECT greatest(1000 * extract(epoch FROM e.created_at - e.execution_date), 0)::float8 AS ms) d
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (workspace_id, day, pipeline_id, trigger_id, bucket) DO UPDATE SET
       runs = s.runs + EXCLUDED.runs, total_ms = s.total_ms + EXCLUDED.total_ms,
       longest_ms = greatest(s.longest_ms, EXCLUDED.longest_ms)
