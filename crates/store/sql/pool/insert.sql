-- Adds pool $1 in shard $2, unless it is there.
INSERT INTO pool (name, shard) VALUES ($1::text, $2::smallint) ON CONFLICT (name) DO NOTHING
