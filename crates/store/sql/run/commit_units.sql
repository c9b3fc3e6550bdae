-- run/commit.sql for the commonest step: blocks that go on within runs that exist. The same guard, a third of the work.
WITH own AS (
    SELECT s.id FROM shard s
    JOIN unnest($1::smallint[], $2::bigint[]) AS o (id, epoch) ON s.id = o.id AND s.epoch = o.epoch
    FOR SHARE OF s
), units AS (
    INSERT INTO block_run AS b (run_id, block, child, status, lease, attempts, deaths, executor_id, not_before,
                                started_at, attempt_started_at, completed_at, output, error, children)
    SELECT u.run_id, u.block, u.child, u.status, u.lease, u.attempts, u.deaths, u.executor_id, u.not_before,
           u.started_at, u.attempt_started_at, u.completed_at, u.output::jsonb, u.error::jsonb, u.children
    FROM unnest($3::uuid[], $4::smallint[], $5::text[], $6::integer[], $7::text[], $8::bigint[],
                $9::integer[], $10::smallint[], $11::uuid[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[],
                $15::timestamptz[], $16::text[], $17::text[], $18::integer[])
        AS u (run_id, shard, block, child, status, lease, attempts, deaths, executor_id, not_before,
              started_at, attempt_started_at, completed_at, output, error, children)
    JOIN own ON own.id = u.shard
    ON CONFLICT (run_id, block, child) DO UPDATE SET
        status = EXCLUDED.status, lease = EXCLUDED.lease, attempts = EXCLUDED.attempts, deaths = EXCLUDED.deaths,
        executor_id = EXCLUDED.executor_id, not_before = EXCLUDED.not_before,
        started_at = CASE WHEN EXCLUDED.status = 'initial' AND EXCLUDED.attempts = 0 THEN NULL
                          ELSE coalesce(EXCLUDED.started_at, b.started_at) END,
        attempt_started_at = EXCLUDED.attempt_started_at, completed_at = EXCLUDED.completed_at,
        output = EXCLUDED.output, error = EXCLUDED.error, children = EXCLUDED.children
)
SELECT coalesce((SELECT array_agg(id) FROM own), '{}') AS shards, '{}'::uuid[] AS created
