-- Unfinished runs that passed the time their trigger allows, lately: what passed it earlier was noted then, or is at
-- the run's end.
-- $1 seconds that are lately, $2 run after which, $3 limit
SELECT r.id AS run_id, r.status, r.started_at, r.workspace_id, r.pipeline_id, r.pipeline_version, r.trigger_id,
       r.created_at, r.execution_date, w.name AS workspace, p.name AS pipeline, t.name AS trigger, t.spec AS trigger_spec
  FROM run r
  JOIN trigger t ON t.id = r.trigger_id AND jsonb_typeof(t.spec -> 'sla_s') = 'number'
  JOIN workspace w ON w.id = r.workspace_id
  JOIN pipeline p ON p.id = r.pipeline_id
 CROSS JOIN LATERAL (SELECT r.created_at + make_interval(secs => (t.spec ->> 'sla_s')::float8) AS due) d
 WHERE r.status IN ('initial', 'running')
   AND d.due <= now() AND d.due > now() - make_interval(secs => $1)
   AND r.id > $2
 ORDER BY r.id
 LIMIT $3
