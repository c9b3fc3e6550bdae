-- One step of the scheduler for many runs: creations, changes of runs and units, ended attempts; all or nothing.
-- Guards: every row is joined with a shard in the epoch that its writer believes to own ($1, $2); a shard whose epoch
-- moved contributes no row at all. What ended is left to the recorder. A run is created only with its firing; a known logical key creates nothing,
-- and neither does a run that was made from what is remembered of its pipeline ($43), when that is not in force any more, or archived.
-- Answers the shards that were still owned and the runs that were created. What creates a run waits for the disk when it commits, whatever
-- its session does otherwise. Sent twice, it writes the same, and no end is told to the recorder twice.
WITH own AS (
    SELECT s.id FROM shard s
    JOIN unnest($1::smallint[], $2::bigint[]) AS o (id, epoch) ON s.id = o.id AND s.epoch = o.epoch
    FOR SHARE OF s
), fired AS (
    INSERT INTO firing (trigger_id, logical_key, decided, run_id, shard_epoch, trigger_version, execution_date)
    SELECT n.source_id, n.logical_key, 'fired', n.run_id, n.epoch, n.trigger_version, n.execution_date
    FROM unnest($3::uuid[], $37::uuid[], $5::text[], $6::smallint[], $7::bigint[], $38::bigint[], $13::timestamptz[],
                $9::uuid[], $10::bigint[], $43::boolean[])
        AS n (run_id, source_id, logical_key, shard, epoch, trigger_version, execution_date, pipeline_id, pipeline_version, if_current)
    JOIN own ON own.id = n.shard
    WHERE NOT n.if_current
       OR (n.pipeline_id, n.pipeline_version) IN
          (SELECT p.id, p.version FROM pipeline p JOIN workspace w ON w.id = p.workspace_id
            WHERE p.id = ANY ($9) AND p.archived_at IS NULL AND w.archived_at IS NULL)
    ON CONFLICT (trigger_id, logical_key) DO NOTHING
    RETURNING run_id
), created AS (
    INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, variables, execution_date,
                     started_at, completed_at, timeout_s, allow_blocks_to_fail, reason, parent_run_id, cancel_reason,
                     backfill_id, event_variables, sla_at, timeout_cancels)
    SELECT n.id, n.workspace_id, n.pipeline_id, n.pipeline_version, n.trigger_id, n.shard, n.status, n.variables::jsonb,
           n.execution_date, n.started_at, n.completed_at, n.timeout_s, n.allow_blocks_to_fail, n.reason, n.parent_run_id, n.cancel_reason,
           n.backfill_id, n.event_variables::jsonb, n.sla_at, n.timeout_cancels
    FROM unnest($3::uuid[], $8::uuid[], $9::uuid[], $10::bigint[], $4::uuid[], $6::smallint[], $11::text[], $12::text[],
                $13::timestamptz[], $14::timestamptz[], $15::timestamptz[], $16::integer[], $17::boolean[], $18::text[], $19::uuid[], $36::text[],
                $39::uuid[], $40::text[], $41::timestamptz[], $42::boolean[])
        AS n (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, variables,
              execution_date, started_at, completed_at, timeout_s, allow_blocks_to_fail, reason, parent_run_id, cancel_reason,
              backfill_id, event_variables, sla_at, timeout_cancels)
    JOIN fired ON fired.run_id = n.id
    RETURNING id, status, started_at, completed_at, former_end_at
), changed AS (
    UPDATE run SET status = c.status, started_at = c.started_at, completed_at = c.completed_at,
                   reason = c.reason, cancel_reason = c.cancel_reason,
                   former_end_at = coalesce(run.completed_at, run.former_end_at)
    FROM unnest($20::uuid[], $21::smallint[], $22::text[], $23::timestamptz[], $24::timestamptz[], $25::text[], $26::text[])
        AS c (id, shard, status, started_at, completed_at, reason, cancel_reason)
    JOIN own ON own.id = c.shard
    WHERE run.id = c.id
      AND (run.status, run.started_at, run.completed_at, run.reason, run.cancel_reason)
          IS DISTINCT FROM (c.status, c.started_at, c.completed_at, c.reason, c.cancel_reason)
    RETURNING run.id, run.status, run.started_at, run.completed_at, run.former_end_at
), ended AS (
    INSERT INTO run_end_batch (run_ids, statuses, started_ats, completed_ats, former_end_ats)
    SELECT array_agg(e.id), array_agg(e.status), array_agg(e.started_at), array_agg(e.completed_at), array_agg(e.former_end_at)
      FROM (SELECT *, row_number() OVER () AS place FROM (SELECT * FROM created UNION ALL SELECT * FROM changed) AS r
             WHERE r.completed_at IS NOT NULL) AS e
     GROUP BY (e.place - 1) / 500
), lost AS (
    INSERT INTO attempt (run_id, block, child, lease, executor_id, outcome, started_at, error)
    SELECT a.run_id, a.block, a.child, a.lease, a.executor_id, a.outcome, a.started_at, a.error::jsonb
    FROM unnest($27::uuid[], $28::smallint[], $29::text[], $30::integer[], $31::bigint[], $32::uuid[], $33::text[],
                $34::timestamptz[], $35::text[])
        AS a (run_id, shard, block, child, lease, executor_id, outcome, started_at, error)
    JOIN own ON own.id = a.shard
    ON CONFLICT DO NOTHING
), new_units AS (
    INSERT INTO block_run (run_id, block, child, status, lease, attempts, deaths, executor_id, not_before,
                           started_at, attempt_started_at, completed_at, output, error, children)
    SELECT u.run_id, u.block, u.child, u.status, u.lease, u.attempts, u.deaths, u.executor_id, u.not_before,
           u.started_at, u.attempt_started_at, u.completed_at, u.output::jsonb, u.error::jsonb, u.children
    FROM unnest($60::uuid[], $61::smallint[], $62::text[], $63::integer[], $64::text[], $65::bigint[],
                $66::integer[], $67::smallint[], $68::uuid[], $69::timestamptz[], $70::timestamptz[], $71::timestamptz[],
                $72::timestamptz[], $73::text[], $74::text[], $75::integer[])
        AS u (run_id, shard, block, child, status, lease, attempts, deaths, executor_id, not_before,
              started_at, attempt_started_at, completed_at, output, error, children)
    JOIN own ON own.id = u.shard
    WHERE u.run_id IN (SELECT run_id FROM fired)
), units AS (
    INSERT INTO block_run AS b (run_id, block, child, status, lease, attempts, deaths, executor_id, not_before,
                                started_at, attempt_started_at, completed_at, output, error, children)
    SELECT u.run_id, u.block, u.child, u.status, u.lease, u.attempts, u.deaths, u.executor_id, u.not_before,
           u.started_at, u.attempt_started_at, u.completed_at, u.output::jsonb, u.error::jsonb, u.children
    FROM unnest($44::uuid[], $45::smallint[], $46::text[], $47::integer[], $48::text[], $49::bigint[],
                $50::integer[], $51::smallint[], $52::uuid[], $53::timestamptz[], $54::timestamptz[], $55::timestamptz[],
                $56::timestamptz[], $57::text[], $58::text[], $59::integer[])
        AS u (run_id, shard, block, child, status, lease, attempts, deaths, executor_id, not_before,
              started_at, attempt_started_at, completed_at, output, error, children)
    JOIN own ON own.id = u.shard
    ON CONFLICT (run_id, block, child) DO UPDATE SET
        status = EXCLUDED.status, lease = EXCLUDED.lease, attempts = EXCLUDED.attempts, deaths = EXCLUDED.deaths,
        executor_id = EXCLUDED.executor_id, not_before = EXCLUDED.not_before,
        started_at = CASE WHEN EXCLUDED.status = 'initial' AND EXCLUDED.attempts = 0 THEN EXCLUDED.started_at
                          ELSE coalesce(EXCLUDED.started_at, b.started_at) END,
        attempt_started_at = EXCLUDED.attempt_started_at, completed_at = EXCLUDED.completed_at,
        output = EXCLUDED.output, error = EXCLUDED.error, children = EXCLUDED.children
)
SELECT coalesce((SELECT array_agg(id) FROM own), '{}') AS shards,
       coalesce((SELECT array_agg(run_id) FROM fired), '{}') AS created,
       (SELECT set_config('synchronous_commit', 'on', true) FROM fired LIMIT 1)
