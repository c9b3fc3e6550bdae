-- What these shards ($1) hold or want, for a new owner to count again.
SELECT h.workspace_id, h.key, h.shard FROM limit_hold h
WHERE h.shard = ANY ($1::smallint[]) AND (h.held > 0 OR h.wanted > 0)
