-- Runs of backfills in whose place others are from now on. In the transaction of run/commit.sql, after it, and guarded like it.
-- $1 runs, $2 shards, $3 epochs, $4 the runs in their places
UPDATE run r SET repeated_by = t.by
  FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::uuid[]) AS t (id, shard, epoch, by)
  JOIN shard s ON s.id = t.shard AND s.epoch = t.epoch
 WHERE r.id = t.id AND EXISTS (SELECT FROM run n WHERE n.id = t.by)
