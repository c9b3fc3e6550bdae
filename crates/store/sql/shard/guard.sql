-- One row while shard $1 is owned in epoch $2; the owner cannot change before the transaction ends.
SELECT id FROM shard WHERE id = $1::smallint AND epoch = $2::bigint FOR SHARE
