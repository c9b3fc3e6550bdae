-- What the owner of these shards ($1) has to carry on: backfills that start runs, or whose runs have not all ended.
SELECT b.id, b.workspace_id, b.pipeline_id, b.shard, b.name, b.start_at, b.end_at, b.unit, b.every, b.cron, b.last_at, b.time_zone, b.descending,
       b.parallelism, b.variables, b.allow_blocks_to_fail, b.status, b.total, b.started, b.completed, b.failed, b.cancelled,
       b.created_at, b.completed_at, b.pause_reason
  FROM backfill b
 WHERE b.shard = ANY ($1::smallint[])
   AND (b.status IN ('running', 'paused') OR b.completed + b.failed + b.cancelled < b.started)
