-- One backfill: by its id ($1), or by its pipeline ($2) and name ($3).
SELECT b.id, b.workspace_id, b.pipeline_id, b.shard, b.name, b.start_at, b.end_at, b.unit, b.every, b.cron, b.last_at, b.time_zone, b.descending,
       b.parallelism, b.variables, b.allow_blocks_to_fail, b.status, b.total, b.started, b.completed, b.failed, b.cancelled,
       b.created_at, b.completed_at, b.pause_reason, p.name AS pipeline, w.name AS workspace
  FROM backfill b
  JOIN pipeline p ON p.id = b.pipeline_id
  JOIN workspace w ON w.id = b.workspace_id
 WHERE b.id = $1::uuid OR (b.pipeline_id = $2::uuid AND b.name = $3::text)
