-- The children of blocks that run again from the start; guarded like run/commit.sql, and in its transaction. Its shards are
-- locked here already: one that is taken between the two statements would lose the children of a run that is not written.
-- $1 runs, $2 blocks, $3 shards, $4 epochs: one entry each
WITH own AS (
    SELECT s.id FROM shard s
    JOIN unnest($3::smallint[], $4::bigint[]) AS o (id, epoch) ON s.id = o.id AND s.epoch = o.epoch
    FOR SHARE OF s
)
DELETE FROM block_run b
USING unnest($1::uuid[], $2::text[], $3::smallint[]) AS d (run_id, block, shard)
WHERE b.run_id = d.run_id AND b.block = d.block AND b.child >= 0 AND d.shard IN (SELECT own.id FROM own)
