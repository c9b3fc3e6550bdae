-- One question at a time, so that each sees what the one before has taken. Who freezes while it asks is not waited for longer than
-- others wait for an answer.
SELECT set_config('idle_in_transaction_session_timeout', '2s', true), pg_advisory_xact_lock(7810759456193209701)
