-- What callers asked for when runs were created, in no order. Runs that are gone are left out.
-- $1 runs
SELECT id, variables, event_variables, execution_date, timeout_s, allow_blocks_to_fail FROM run WHERE id = ANY ($1)
