-- The lives of pool $1 that have not ended.
SELECT r.workspace_id, r.project_id, r.queue_id, r.plan_id, r.number, r.holder, r.spec_version, r.spec, r.state, r.step, r.reason,
       r.message, r.hint, r.start_key, r.start_again, r.fence, r.node_id, r.endpoint, r.access_key, r.requested_by, r.submitted_at,
       r.step_at, r.placed_at, r.running_at, r.stopped_at, r.active_at, r.protected_until, r.ends_at, r.ends_because, r.gang,
       r.expected_at, r.position, w.name AS workspace, p.name AS project
FROM runtime r JOIN workspace w ON w.id = r.workspace_id JOIN project p ON p.id = r.project_id
WHERE r.pool = $1::text AND r.state IN ('starting', 'running', 'stopping')
ORDER BY r.holder
