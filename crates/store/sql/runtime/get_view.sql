-- The runtime of a workspace: what it shall be, and what is so. Either may be missing.
-- $1 workspace
SELECT w.id, w.name, p.name, w.project_id, coalesce(s.version, 0), s.spec, sq.name, sq.pool,
       r.pool, coalesce(rq.name, ''), coalesce(l.name, ''), r.number, r.holder, r.spec_version, r.spec, r.state, r.step,
       r.reason, r.message, r.hint, coalesce(n.name, ''), coalesce(u.email, ''), r.submitted_at, r.placed_at, r.running_at,
       r.stopped_at, r.active_at, r.protected_until, r.ends_at, r.ends_because,
       CASE WHEN r.state = 'starting' AND r.step = 'queued' THEN coalesce(r.position, 0) ELSE 0 END,
       now(), r.expected_at, coalesce((r.gang ->> 'size')::integer, 0)
  FROM workspace w
  JOIN project p ON p.id = w.project_id
  LEFT JOIN runtime_spec s ON s.workspace_id = w.id
  LEFT JOIN queue sq ON sq.id = s.queue_id
  LEFT JOIN runtime r ON r.workspace_id = w.id
  LEFT JOIN queue rq ON rq.id = r.queue_id
  LEFT JOIN plan l ON l.id = r.plan_id
  LEFT JOIN node n ON n.id = r.node_id
  LEFT JOIN user_account u ON u.id = r.requested_by
 WHERE w.id = $1
