-- Runs that have not ended when they should have, at $4; in the transaction of run/commit.sql and guarded like it.
-- $1 runs, $2 shards, $3 epochs
UPDATE run r SET sla_missed_at = $4::timestamptz
  FROM unnest($1::uuid[], $2::smallint[], $3::bigint[]) AS m (id, shard, epoch)
  JOIN shard s ON s.id = m.shard AND s.epoch = m.epoch
 WHERE r.id = m.id AND r.sla_missed_at IS NULL
