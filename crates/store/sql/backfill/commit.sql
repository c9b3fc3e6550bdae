-- How far backfills are, in the transaction of run/commit.sql and guarded like it. Only the owner of the shard writes
-- them.
-- $1 ids, $2 shards, $3 epochs, $4 statuses, $5 started, $6 completed, $7 failed, $8 cancelled, $9 ends, $10 begins of the intervals started last, $11 why they paused themselves
UPDATE backfill b
   SET status = c.status, started = c.started, completed = c.completed, failed = c.failed, cancelled = c.cancelled,
       completed_at = c.completed_at, last_at = c.last_at, pause_reason = c.pause_reason
  FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
              $9::timestamptz[], $10::timestamptz[], $11::text[])
       AS c (id, shard, epoch, status, started, completed, failed, cancelled, completed_at, last_at, pause_reason)
  JOIN shard s ON s.id = c.shard AND s.epoch = c.epoch
 WHERE b.id = c.id
