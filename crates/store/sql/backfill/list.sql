-- A page of backfills, newest first. $1 workspace, $2 pipeline or NULL, $3 id of the last one of the page before, $4 limit
SELECT b.id, b.workspace_id, b.pipeline_id, b.shard, b.name, b.start_at, b.end_at, b.unit, b.every, b.cron, b.last_at, b.time_zone, b.descending,
       b.parallelism, b.variables, b.allow_blocks_to_fail, b.status, b.total, b.started, b.completed, b.failed, b.cancelled,
       b.created_at, b.completed_at, b.pause_reason, p.name AS pipeline, w.name AS workspace
  FROM backfill b
  JOIN pipeline p ON p.id = b.pipeline_id
  JOIN workspace w ON w.id = b.workspace_id
 WHERE b.workspace_id = $1::uuid AND ($2::uuid IS NULL OR b.pipeline_id = $2::uuid) AND b.id < $3::uuid
 ORDER BY b.id DESC
 LIMIT $4::bigint
