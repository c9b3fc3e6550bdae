-- The outputs of these runs are gone. Saying it twice is no error.
-- $1 runs
DELETE FROM output_removal WHERE run_id = ANY ($1::uuid[])
