-- Names of workspaces whose runtimes would start in a queue.
-- $1 queue, $2 limit
SELECT w.name FROM runtime_spec s JOIN workspace w ON w.id = s.workspace_id
 WHERE s.queue_id = $1 AND w.archived_at IS NULL ORDER BY w.name LIMIT $2
