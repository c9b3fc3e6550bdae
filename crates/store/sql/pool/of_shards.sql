-- The pools of shards $1.
SELECT name, shard FROM pool WHERE shard = ANY ($1::smallint[]) ORDER BY name
