-- A new backfill; no row when the pipeline has one of this name, or the shard has another epoch ($3) by now.
-- $1 id, $2 shard, $3 epoch, $4 workspace, $5 pipeline, $6 name, $7 start, $8 end, $9 unit, $10 every, $11 zone,
-- $12 descending, $13 parallelism, $14 variables, $15 allow blocks to fail, $16 total, $17 cron or NULL
INSERT INTO backfill (id, workspace_id, pipeline_id, shard, name, start_at, end_at, unit, every, time_zone, descending,
                      parallelism, variables, allow_blocks_to_fail, status, total, cron)
SELECT $1::uuid, $4::uuid, $5::uuid, s.id, $6::text, $7::timestamptz, $8::timestamptz, $9::text, $10::integer, $11::text,
       $12::boolean, $13::integer, $14::text::jsonb, $15::boolean, 'running', $16::bigint, $17::text
FROM shard s WHERE s.id = $2::smallint AND s.epoch = $3::bigint
FOR SHARE OF s
ON CONFLICT (pipeline_id, name) DO NOTHING
RETURNING id
