-- One question at a time, so that each sees what the one before has taken.
SELECT pg_advisory_xact_lock(7810759456193209701)
