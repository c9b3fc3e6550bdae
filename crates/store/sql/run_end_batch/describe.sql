-- Of these ends, those of these pipelines, with all that a message tells of them.
-- $1 end's id, $2 run, $3 status, $4 start or NULL, $5 end: one entry each; $6 pipelines
SELECT e.id, e.run_id, e.status, e.started_at, e.completed_at,
       r.workspace_id, r.pipeline_id, r.pipeline_version, r.trigger_id, r.execution_date, r.reason,
       w.name AS workspace, p.name AS pipeline, coalesce(t.name, '') AS trigger, r.sla_at
  FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[])
       AS e (id, run_id, status, started_at, completed_at)
 CROSS JOIN LATERAL (SELECT * FROM run WHERE id = e.run_id OFFSET 0) AS r
  JOIN workspace w ON w.id = r.workspace_id
  JOIN pipeline p ON p.id = r.pipeline_id
  LEFT JOIN trigger t ON t.id = r.trigger_id
 WHERE r.pipeline_id = ANY ($6)
 ORDER BY e.id
