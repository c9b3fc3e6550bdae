-- What a logical key of a trigger became: its run, or why it was skipped.
-- $1 trigger, $2 logical key
SELECT run_id, reason FROM firing WHERE trigger_id = $1 AND logical_key = $2
