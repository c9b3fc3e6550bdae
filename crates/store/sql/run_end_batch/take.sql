-- Ends that nobody has taken, of so many batches, oldest first, with what is known of their runs. They are gone when the caller
-- commits. An end is named by its batch and its place there; of a run that is forgotten it is there with nothing else. What a schedule
-- asked for has a time to miss; what somebody asked for, a backfill too, and what a run started have none.
-- $1 limit of batches
WITH taken AS (
    DELETE FROM run_end_batch WHERE id IN (SELECT id FROM run_end_batch ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING id, run_ids, statuses, started_ats, completed_ats, former_end_ats
)
SELECT (b.id << 24) + e.place AS id, e.run_id, e.status, e.started_at, e.completed_at, e.former_end_at,
       r.workspace_id, r.pipeline_id, r.pipeline_version, r.trigger_id, r.created_at, r.execution_date, r.reason,
       w.name AS workspace, p.name AS pipeline, r.id IS NOT NULL AS is_known, coalesce(t.name, '') AS trigger, r.sla_at,
       coalesce(t.kind = 'time', false) AND r.parent_run_id IS NULL AND r.backfill_id IS NULL AS is_scheduled
  FROM taken b
 CROSS JOIN LATERAL unnest(b.run_ids, b.statuses, b.started_ats, b.completed_ats, b.former_end_ats)
       WITH ORDINALITY AS e (run_id, status, started_at, completed_at, former_end_at, place)
  LEFT JOIN LATERAL (SELECT * FROM run WHERE id = e.run_id OFFSET 0) AS r ON true
  LEFT JOIN workspace w ON w.id = r.workspace_id
  LEFT JOIN pipeline p ON p.id = r.pipeline_id
  LEFT JOIN trigger t ON t.id = r.trigger_id
 ORDER BY 1
