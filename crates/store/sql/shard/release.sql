-- Gives shards $2 of scheduler $1 back. The epoch stays: the next owner raises it.
UPDATE shard SET owner = NULL WHERE owner = $1::uuid AND id = ANY ($2::smallint[])
