-- As guard, and waits for every commit under shard $1 that is still under way: what is read afterwards is all there is.
SELECT id FROM shard WHERE id = $1::smallint AND epoch = $2::bigint FOR NO KEY UPDATE
