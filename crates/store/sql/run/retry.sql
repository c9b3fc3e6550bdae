-- The key of the retry that a run was given; in the transaction of run/commit.sql and guarded like it.
-- $1 runs, $2 shards, $3 epochs, $4 keys
UPDATE run r SET retry_key = t.key
  FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[]) AS t (id, shard, epoch, key)
  JOIN shard s ON s.id = t.shard AND s.epoch = t.epoch
 WHERE r.id = t.id
