-- Runs run again: each with the key of that retry, if it has one, and with its outputs, which a removal may have been asked for
-- since somebody looked. In the transaction of run/commit.sql, after it, and guarded like it.
-- $1 runs, $2 shards, $3 epochs, $4 keys or NULL
WITH again AS (
    UPDATE run r SET retry_key = coalesce(t.key, r.retry_key), outputs_expired_at = NULL
      FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[]) AS t (id, shard, epoch, key)
      JOIN shard s ON s.id = t.shard AND s.epoch = t.epoch
     WHERE r.id = t.id
    RETURNING r.id
)
DELETE FROM output_removal o USING again WHERE o.run_id = again.id
