-- What was decided about triggers besides the runs that they start: times that never start, and up to where everything is
-- decided. In the transaction of run/commit.sql and after trigger/guard.sql; guarded by the epochs like the former.
-- $1 triggers, $2 shards, $3 epochs, $4 states, $5 what waiting starts are told (NULL where that stays as it is), $6 next
-- looks; then of the skipped times: $7 triggers, $8 shards, $9 epochs, $10 keys, $11 reasons, $12 first dates, $13 last dates,
-- $14 counts, $15 versions; and of the triggers again: $16 versions, $17 histories
WITH skipped AS (
    INSERT INTO firing (trigger_id, logical_key, decided, reason, shard_epoch, trigger_version, execution_date, last_date, times)
    SELECT k.trigger_id, k.logical_key, 'skipped', k.reason, k.epoch, k.version, k.first_date, k.last_date, k.times
    FROM unnest($7::uuid[], $8::smallint[], $9::bigint[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[],
                $14::integer[], $15::bigint[])
        AS k (trigger_id, shard, epoch, logical_key, reason, first_date, last_date, times, version)
    JOIN shard s ON s.id = k.shard AND s.epoch = k.epoch
    ON CONFLICT (trigger_id, logical_key) DO NOTHING
)
INSERT INTO trigger_state AS t (trigger_id, shard, version, state, waiting, history, next_due)
SELECT d.trigger_id, d.shard, d.version, d.state::jsonb, coalesce(d.waiting, 'null')::jsonb, d.history::jsonb, d.next_due
FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $16::bigint[], $4::text[], $5::text[], $17::text[], $6::timestamptz[])
    AS d (trigger_id, shard, epoch, version, state, waiting, history, next_due)
JOIN shard s ON s.id = d.shard AND s.epoch = d.epoch
ORDER BY d.trigger_id
ON CONFLICT (trigger_id) DO UPDATE
   SET shard = EXCLUDED.shard, version = EXCLUDED.version, state = EXCLUDED.state,
       waiting = CASE jsonb_typeof(EXCLUDED.waiting) WHEN 'null' THEN t.waiting ELSE EXCLUDED.waiting END,
       history = EXCLUDED.history, next_due = EXCLUDED.next_due
