-- A page by name of the workspaces that have a spec or had a life, of those that a person may see. Of those that are out of
-- use, the ones whose life has not ended.
-- $1 last name of the page before, $2 limit, $3 user, or NULL for one who sees all, $4 project, empty is all,
-- $5 states, none is all; without a life it is stopped, $6 queue, empty is all
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
 WHERE w.name > $1
   AND (r.state IN ('starting', 'running', 'stopping')
        OR w.archived_at IS NULL AND (s.workspace_id IS NOT NULL OR r.state <> 'stopped'))
   AND ($3::uuid IS NULL OR EXISTS (SELECT 1 FROM workspace_access a WHERE a.workspace_id = w.id AND a.user_id = $3))
   AND ($4::text = '' OR p.name = $4)
   AND (cardinality($5::text[]) = 0 OR coalesce(r.state, 'stopped') = ANY ($5))
   AND ($6::text = '' OR CASE WHEN r.state <> 'stopped' THEN rq.name ELSE sq.name END = $6)
 ORDER BY w.name LIMIT $2
