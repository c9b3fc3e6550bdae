-- run/commit_units.sql for exactly two blocks of one run, as one ends and the next begins: without arrays, a fifth less.
WITH own AS (
    SELECT id FROM shard WHERE id = $1::smallint AND epoch = $2::bigint FOR SHARE
), units AS (
    INSERT INTO block_run AS b (run_id, block, child, status, lease, attempts, deaths, executor_id, not_before,
                                started_at, attempt_started_at, completed_at, output, error, children)
    SELECT $3::uuid, u.* FROM own, (VALUES
        ($4::text, $5::integer, $6::text, $7::bigint, $8::integer, $9::smallint, $10::uuid, $11::timestamptz,
         $12::timestamptz, $13::timestamptz, $14::timestamptz, $15::text::jsonb, $16::text::jsonb, $17::integer),
        ($18::text, $19::integer, $20::text, $21::bigint, $22::integer, $23::smallint, $24::uuid, $25::timestamptz,
         $26::timestamptz, $27::timestamptz, $28::timestamptz, $29::text::jsonb, $30::text::jsonb, $31::integer)
    ) AS u
    ON CONFLICT (run_id, block, child) DO UPDATE SET
        status = EXCLUDED.status, lease = EXCLUDED.lease, attempts = EXCLUDED.attempts, deaths = EXCLUDED.deaths,
        executor_id = EXCLUDED.executor_id, not_before = EXCLUDED.not_before,
        started_at = CASE WHEN EXCLUDED.status = 'initial' AND EXCLUDED.attempts = 0 THEN NULL
                          ELSE coalesce(EXCLUDED.started_at, b.started_at) END,
        attempt_started_at = EXCLUDED.attempt_started_at, completed_at = EXCLUDED.completed_at,
        output = EXCLUDED.output, error = EXCLUDED.error, children = EXCLUDED.children
)
SELECT coalesce((SELECT ARRAY[id] FROM own), '{}') AS shards, '{}'::uuid[] AS created
