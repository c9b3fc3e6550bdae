-- Unfinished runs that passed the time by which they should have ended, lately: what passed it earlier was noted then,
-- or is at the run's end.
-- $1 seconds that are lately, $2 run after which, $3 limit
SELECT r.id AS run_id, r.status, r.started_at, r.workspace_id, r.pipeline_id, r.pipeline_version, r.trigger_id,
       r.execution_date, w.name AS workspace, p.name AS pipeline, coalesce(t.name, '') AS trigger, r.sla_at
  FROM unfinished_run u
  CROSS JOIN LATERAL (SELECT * FROM run WHERE id = u.run_id OFFSET 0) AS r
  JOIN workspace w ON w.id = r.workspace_id
  JOIN pipeline p ON p.id = r.pipeline_id
  LEFT JOIN trigger t ON t.id = r.trigger_id
 WHERE r.sla_at <= now() AND r.sla_at > now() - make_interval(secs => $1)
   AND u.run_id > $2
 ORDER BY r.id
 LIMIT $3
