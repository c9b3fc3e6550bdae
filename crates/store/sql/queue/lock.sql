-- As `get`, and one change of it at a time.
-- $1 name
SELECT q.id, q.name, q.pool, q.priority, q.preemptible, q.deserved_milli, q.limit_milli, q.weight, q.version,
       q.archived_at IS NOT NULL
  FROM queue q WHERE q.name = $1 FOR UPDATE
