-- Counts ends of runs, the block runs that ended in these lives, children and callbacks included, and how late runs were created; of a
-- run that is forgotten nothing. Each table's rows are taken in its key's order, and the tables in one order, so that two recorders
-- never wait for each other in a ring. Answers what the runs were of.
--
-- A life that never started is all that came after the end of the life before, and of a first one all there is. What a later life has done
-- by now is that one's. A run is created once, however often it ends. What a schedule asked for has a time to miss; what somebody
-- asked for, a backfill too, and what a run started have none.
-- $1 run, $2 status, $3 start or NULL, $4 end, $5 end of the life before or NULL: one entry each
WITH ends AS MATERIALIZED (
    SELECT e.run_id, e.status, e.started_at, e.completed_at, e.former_end_at,
           r.workspace_id, r.pipeline_id, r.pipeline_version, r.trigger_id, r.created_at, r.execution_date,
           r.parent_run_id IS NULL AND r.backfill_id IS NULL AND e.former_end_at IS NULL AS may_be_late
      FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
           AS e (run_id, status, started_at, completed_at, former_end_at)
     CROSS JOIN LATERAL (SELECT * FROM run WHERE id = e.run_id OFFSET 0) AS r
), runs AS (
    INSERT INTO run_stat AS s (workspace_id, day, pipeline_id, trigger_id, status, bucket, runs, total_ms, longest_ms)
    SELECT e.workspace_id, (e.completed_at AT TIME ZONE 'UTC')::date, e.pipeline_id, e.trigger_id, e.status,
           least(floor(4 * ln(greatest(d.ms, 1)) / ln(2.0)), 127)::smallint, count(*), sum(d.ms), max(d.ms)
      FROM ends e
     CROSS JOIN LATERAL (SELECT greatest(1000 * extract(epoch FROM e.completed_at - coalesce(e.started_at, e.completed_at)), 0)::float8 AS ms) d
     GROUP BY 1, 2, 3, 4, 5, 6
     ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (workspace_id, day, pipeline_id, trigger_id, status, bucket) DO UPDATE SET
           runs = s.runs + EXCLUDED.runs, total_ms = s.total_ms + EXCLUDED.total_ms,
           longest_ms = greatest(s.longest_ms, EXCLUDED.longest_ms)
), blocks AS (
    INSERT INTO block_stat AS s (workspace_id, day, pipeline_id, block, status, bucket, runs, total_ms, longest_ms)
    SELECT e.workspace_id, (b.completed_at AT TIME ZONE 'UTC')::date, e.pipeline_id, b.block, b.status,
           least(floor(4 * ln(greatest(d.ms, 1)) / ln(2.0)), 127)::smallint, count(*), sum(d.ms), max(d.ms)
      FROM ends e
     CROSS JOIN LATERAL (SELECT * FROM block_run WHERE run_id = e.run_id OFFSET 0) AS b
     CROSS JOIN LATERAL (SELECT greatest(1000 * extract(epoch FROM b.completed_at - coalesce(b.started_at, b.completed_at)), 0)::float8 AS ms) d
     WHERE b.completed_at <= e.completed_at
       AND CASE WHEN e.started_at IS NOT NULL THEN b.completed_at >= e.started_at
                ELSE e.former_end_at IS NULL OR b.completed_at > e.former_end_at END
     GROUP BY 1, 2, 3, 4, 5, 6
     ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (workspace_id, day, pipeline_id, block, status, bucket) DO UPDATE SET
           runs = s.runs + EXCLUDED.runs, total_ms = s.total_ms + EXCLUDED.total_ms,
           longest_ms = greatest(s.longest_ms, EXCLUDED.longest_ms)
), late AS (
    INSERT INTO lateness_stat AS s (workspace_id, day, pipeline_id, trigger_id, bucket, runs, total_ms, longest_ms)
    SELECT e.workspace_id, (e.created_at AT TIME ZONE 'UTC')::date, e.pipeline_id, e.trigger_id,
           least(floor(4 * ln(greatest(d.ms, 1)) / ln(2.0)), 127)::smallint, count(*), sum(d.ms), max(d.ms)
      FROM ends e
     CROSS JOIN LATERAL (SELECT greatest(1000 * extract(epoch FROM e.created_at - e.execution_date), 0)::float8 AS ms) d
     WHERE e.may_be_late
       AND e.trigger_id IN (SELECT t.id FROM (SELECT DISTINCT trigger_id FROM ends WHERE may_be_late) AS asked
                             CROSS JOIN LATERAL (SELECT * FROM trigger WHERE id = asked.trigger_id OFFSET 0) AS t
                             WHERE t.kind = 'time')
     GROUP BY 1, 2, 3, 4, 5
     ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (workspace_id, day, pipeline_id, trigger_id, bucket) DO UPDATE SET
           runs = s.runs + EXCLUDED.runs, total_ms = s.total_ms + EXCLUDED.total_ms,
           longest_ms = greatest(s.longest_ms, EXCLUDED.longest_ms)
)
SELECT v.workspace_id, v.pipeline_id, v.pipeline_version, p.name AS pipeline
  FROM (SELECT DISTINCT workspace_id, pipeline_id, pipeline_version FROM ends) AS v
 CROSS JOIN LATERAL (SELECT name FROM pipeline WHERE id = v.pipeline_id OFFSET 0) AS p
