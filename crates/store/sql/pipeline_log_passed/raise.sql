-- Up to this run the lines of a pipeline are gone, but for those of stragglers: runs that had not ended for so long. A mark never
-- goes back.
-- $1 pipeline, $2 when the run was created, $3 the run, $4 stragglers up to it
WITH noted AS (
    INSERT INTO log_straggler (pipeline_id, run_id) SELECT $1::uuid, run FROM unnest($4::uuid[]) AS run ORDER BY run ON CONFLICT DO NOTHING
)
INSERT INTO pipeline_log_passed AS m (pipeline_id, created_at, run_id) VALUES ($1, $2, $3)
ON CONFLICT (pipeline_id) DO UPDATE SET created_at = excluded.created_at, run_id = excluded.run_id
 WHERE (m.created_at, m.run_id) < (excluded.created_at, excluded.run_id)
