-- $1 workspace
SELECT s.version, s.spec, s.queue_id, q.name, q.pool, q.archived_at IS NOT NULL
  FROM runtime_spec s JOIN queue q ON q.id = s.queue_id WHERE s.workspace_id = $1
