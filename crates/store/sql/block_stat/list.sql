-- Ends of block runs by day, pipeline, block and status, in buckets of duration.
-- $1 workspace, $2 first day, $3 last day, $4 pipeline or NULL, $5 limit
SELECT s.day::text AS day, p.name AS pipeline, s.block, s.status, s.bucket, s.runs, s.total_ms, s.longest_ms
  FROM block_stat s
  JOIN pipeline p ON p.id = s.pipeline_id
 WHERE s.workspace_id = $1 AND s.day BETWEEN $2::text::date AND $3::text::date
   AND ($4::uuid IS NULL OR s.pipeline_id = $4)
 ORDER BY s.day, p.name, s.block, s.status, s.bucket
 LIMIT $5
