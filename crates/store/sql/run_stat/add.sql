-- Counts ends of runs. Rows are taken in the key's order, so that two recorders never wait for each other in a ring.
-- $1 workspace, $2 pipeline, $3 trigger, $4 status, $5 start or NULL, $6 end: one entry each
INSERT INTO run_stat AS s (workspace_id, day, pipeline_id, trigger_id, status, bucket, runs, total_ms, longest_ms)
SELECT e.workspace_id, (e.completed_at AT TIME ZONE 'UTC')::date, e.pipeline_id, e.trigger_id, e.status,
       least(floor(4 * ln(greatest(d.ms, 1)) / ln(2.0)), 127)::smallint, count(*), sum(d.ms), max(d.ms)
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::timestamptz[])
       AS e (workspace_id, pipeline_id, trigger_id, status, started_at, completed_at)
 CROSS JOIN LATERAL (SELECT greatest(1000 * extract(epoch FROM e.completed_at - coalesce(e.started_at, e.completed_at)), 0)::float8 AS ms) d
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
ON CONFLICT (workspace_id, day, pipeline_id, trigger_id, status, bucket) DO UPDATE SET
       runs = s.runs + EXCLUDED.runs, total_ms = s.total_ms + EXCLUDED.total_ms,
       longest_ms = greatest(s.longest_ms, EXCLUDED.longest_ms)
