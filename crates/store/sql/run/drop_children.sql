-- The children of blocks that run again from the start; guarded like run/commit.sql, and in its transaction.
DELETE FROM block_run b
USING unnest($1::uuid[], $2::text[], $3::smallint[], $4::bigint[]) AS d (run_id, block, shard, epoch)
JOIN shard s ON s.id = d.shard AND s.epoch = d.epoch
WHERE b.run_id = d.run_id AND b.block = d.block AND b.child >= 0
