-- Counts how late scheduled runs were created. Runs that somebody asked for, backfills too, have no time to miss.
-- $1 runs that have ended for the first time
INSERT INTO lateness_stat AS s (workspace_id, day, pipeline_id, trigger_id, bucket, runs, total_ms, longest_ms)
SELECT r.workspace_id, (r.created_at AT TIME ZONE 'UTC')::date, r.pipeline_id, r.trigger_id,
       least(floor(4 * ln(greatest(d.ms, 1)) / ln(2.0)), 127)::smallint, count(*), sum(d.ms), max(d.ms)
  FROM unnest($1::uuid[]) AS e (run_id)
  JOIN run r ON r.id = e.run_id AND r.parent_run_id IS NULL AND r.backfill_id IS NULL
  JOIN trigger t ON t.id = r.trigger_id AND t.kind = 'time'
 CROSS JOIN LATERAL (SELECT greatest(1000 * extract(epoch FROM r.created_at - r.execution_date), 0)::float8 AS ms) d
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (workspace_id, day, pipeline_id, trigger_id, bucket) DO UPDATE SET
       runs = s.runs + EXCLUDED.runs, total_ms = s.total_ms + EXCLUDED.total_ms,
       longest_ms = greatest(s.longest_ms, EXCLUDED.longest_ms)
