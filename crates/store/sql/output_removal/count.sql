-- What a removal would take from pipeline $1: ended runs and the bytes of their outputs, as output_removal/request.sql picks
-- them, and how many runs it keeps because they have not ended.
-- $1 pipeline, $2 ended before
WITH latest AS (
    SELECT id FROM run WHERE pipeline_id = $1::uuid AND status = 'completed' ORDER BY id DESC LIMIT 1
), picked AS (
    SELECT r.id
      FROM run r
     WHERE r.pipeline_id = $1::uuid AND r.outputs_expired_at IS NULL
       AND r.created_at < $2::timestamptz AND r.completed_at < $2::timestamptz
       AND NOT EXISTS (SELECT 1 FROM latest WHERE latest.id = r.id)
)
SELECT (SELECT count(*) FROM picked) AS runs,
       (SELECT coalesce(sum((info ->> 'size_bytes')::bigint), 0)::bigint
          FROM picked
          JOIN block_run b ON b.run_id = picked.id
         CROSS JOIN LATERAL jsonb_array_elements(b.output -> 'outputs') AS info) AS bytes,
       (SELECT count(*) FROM run r WHERE r.pipeline_id = $1::uuid AND r.outputs_expired_at IS NULL
           AND r.created_at < $2::timestamptz AND r.completed_at IS NULL) AS unfinished
