-- Ends that a scheduler of the version before left, oldest first, as run_end_batch/take.sql answers those of this one.
-- $1 limit
WITH taken AS (
    DELETE FROM run_end WHERE id IN (SELECT id FROM run_end ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING id, run_id, status, started_at, completed_at, former_end_at
)
SELECT e.id, e.run_id, e.status, e.started_at, e.completed_at, e.former_end_at,
       r.workspace_id, r.pipeline_id, r.pipeline_version, r.trigger_id, r.created_at, r.execution_date, r.reason,
       w.name AS workspace, p.name AS pipeline, r.id IS NOT NULL AS is_known, coalesce(t.name, '') AS trigger, r.sla_at,
       coalesce(t.kind = 'time', false) AND r.parent_run_id IS NULL AND r.backfill_id IS NULL AS is_scheduled
  FROM taken e
  LEFT JOIN LATERAL (SELECT * FROM run WHERE id = e.run_id OFFSET 0) AS r ON true
  LEFT JOIN workspace w ON w.id = r.workspace_id
  LEFT JOIN pipeline p ON p.id = r.pipeline_id
  LEFT JOIN trigger t ON t.id = r.trigger_id
 ORDER BY e.id
