-- What the logs of attempts say whose executor was lost; in the transaction of run/commit.sql and guarded like it, so that of
-- several schedulers one says it, once.
-- $1 shards, $2 epochs, $3 runs, $4 blocks, $5 children, $6 leases, $7 levels, $8 block types, $9 executors, $10 what follows
INSERT INTO log_line (run_id, at, block, child, lease, level, stream, message, block_type)
SELECT a.run_id, clock_timestamp(), a.block, a.child, a.lease, a.level, 'system',
       format('executor %s was lost: %s', coalesce(e.name, a.executor_id::text), a.follows), a.block_type
  FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::text[], $5::integer[], $6::bigint[], $7::smallint[], $8::text[],
              $9::uuid[], $10::text[])
    AS a (shard, epoch, run_id, block, child, lease, level, block_type, executor_id, follows)
  JOIN shard s ON s.id = a.shard AND s.epoch = a.epoch
  LEFT JOIN executor e ON e.id = a.executor_id
