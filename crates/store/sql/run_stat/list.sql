-- Ends of runs by day, pipeline, trigger and status, in buckets of duration.
-- $1 workspace, $2 first day, $3 last day, $4 pipeline or NULL, $5 trigger or NULL, $6 limit
SELECT s.day::text AS day, p.name AS pipeline, coalesce(t.name, '') AS trigger, s.status, s.bucket, s.runs, s.total_ms, s.longest_ms
  FROM run_stat s
  JOIN pipeline p ON p.id = s.pipeline_id
  LEFT JOIN trigger t ON t.id = s.trigger_id
 WHERE s.workspace_id = $1 AND s.day BETWEEN $2::text::date AND $3::text::date
   AND ($4::uuid IS NULL OR s.pipeline_id = $4) AND ($5::uuid IS NULL OR s.trigger_id = $5)
 ORDER BY s.day, p.name, t.name, s.status, s.bucket
 LIMIT $6
