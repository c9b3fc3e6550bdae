-- Every stored unit of these runs.
SELECT run_id, block, child, status, lease, attempts, deaths, executor_id, not_before, started_at, attempt_started_at,
       completed_at, output, error, children
FROM block_run WHERE run_id = ANY ($1::uuid[])
ORDER BY run_id, block, child
