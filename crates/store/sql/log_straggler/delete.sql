-- The lines of these are gone. One that runs again by now was noted later, and stays.
-- $1 pipeline, $2 runs, $3 when each was noted
DELETE FROM log_straggler s
 USING unnest($2::uuid[], $3::timestamptz[]) AS gone (run_id, noted_at)
 WHERE s.pipeline_id = $1 AND s.run_id = gone.run_id AND s.noted_at = gone.noted_at
