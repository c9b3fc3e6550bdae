-- Up to this run the lines of a pipeline are gone; a mark never goes back.
-- $1 pipeline, $2 end of the run, $3 run
INSERT INTO pipeline_log_mark AS m (pipeline_id, completed_at, run_id) VALUES ($1, $2, $3)
ON CONFLICT (pipeline_id) DO UPDATE SET completed_at = excluded.completed_at, run_id = excluded.run_id
 WHERE (m.completed_at, m.run_id) < (excluded.completed_at, excluded.run_id)
