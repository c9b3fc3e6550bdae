-- Marks outputs of ended runs of pipeline $1 as expired, oldest first, and asks for their removal. A run that has not
-- ended, or is written to at this moment, is left alone, and so is the latest completed one, whose outputs other pipelines
-- may ask for. Nobody removes anything for $3 seconds: a retry that read the run just before this statement comes first.
-- $1 pipeline, $2 ended before, $3 seconds, $4 limit
WITH latest AS (
    SELECT id FROM run WHERE pipeline_id = $1::uuid AND status = 'completed' ORDER BY id DESC LIMIT 1
), picked AS (
    SELECT r.id
      FROM run r
     WHERE r.pipeline_id = $1::uuid AND r.outputs_expired_at IS NULL
       AND r.created_at < $2::timestamptz AND r.completed_at < $2::timestamptz
       AND NOT EXISTS (SELECT 1 FROM latest WHERE latest.id = r.id)
     ORDER BY r.created_at
     LIMIT $4::bigint
       FOR UPDATE SKIP LOCKED
), marked AS (
    UPDATE run r
       SET outputs_expired_at = clock_timestamp()
      FROM picked
     WHERE r.id = picked.id AND r.completed_at IS NOT NULL
 RETURNING r.id, r.pipeline_id, r.pipeline_version
), asked AS (
    INSERT INTO output_removal (run_id, bundle_digest, not_before)
    SELECT m.id, v.bundle_digest, clock_timestamp() + make_interval(secs => $3::float8)
      FROM marked m
      JOIN pipeline_version v ON v.pipeline_id = m.pipeline_id AND v.version = m.pipeline_version
     -- Runs that never wrote anything need nobody's visit.
     WHERE EXISTS (SELECT 1 FROM block_run b
                    WHERE b.run_id = m.id
                      AND (b.status = 'failed' OR b.lease > 1 OR jsonb_array_length(b.output -> 'outputs') > 0))
    ON CONFLICT (run_id) DO NOTHING
)
SELECT count(*) AS runs FROM marked
