-- After an outcome that nobody knows: raise the epoch of everything owned, so that a commit still under way cannot count.
UPDATE shard SET epoch = epoch + 1 WHERE owner = $1::uuid RETURNING id, epoch
