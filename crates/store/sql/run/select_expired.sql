-- Since when the outputs of a run are gone; NULL when they are there, no row when there is no such run.
-- $1 run
SELECT outputs_expired_at FROM run WHERE id = $1::uuid
