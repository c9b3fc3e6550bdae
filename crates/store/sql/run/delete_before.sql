-- Forgets runs of pipeline $1 that ended before $2 and whose outputs are gone, oldest first: with their blocks and attempts.
-- Such a run can be retried only as a new one, so nobody takes it up meanwhile; who looked before its outputs were marked
-- has ten minutes. What counts of it is in the statistics; its firing stays.
-- $1 pipeline, $2 ended before, $3 limit
WITH picked AS (
    SELECT r.id
      FROM run r
     WHERE r.pipeline_id = $1::uuid AND r.created_at < $2::timestamptz AND r.completed_at < $2::timestamptz
       AND r.outputs_expired_at < clock_timestamp() - interval '10 minutes'
       AND NOT EXISTS (SELECT 1 FROM output_removal o WHERE o.run_id = r.id)
     ORDER BY r.created_at
     LIMIT $3::bigint
       FOR UPDATE SKIP LOCKED
), attempts AS (
    DELETE FROM attempt a USING picked WHERE a.run_id = picked.id
), blocks AS (
    DELETE FROM block_run b USING picked WHERE b.run_id = picked.id
), stragglers AS (
    DELETE FROM log_straggler s USING picked WHERE s.pipeline_id = $1::uuid AND s.run_id = picked.id
), runs AS (
    DELETE FROM run r USING picked WHERE r.id = picked.id AND r.completed_at IS NOT NULL RETURNING r.id
)
SELECT count(*) AS runs FROM runs
