-- How a run stands, and the run that is in its place in its backfill, if there is one.
-- $1 run
SELECT status, repeated_by FROM run WHERE id = $1::uuid
