-- Begins lives in pool $1, each only where the last one of its workspace has ended and the workspace is in use; the row's lock
-- makes this and whoever archives it wait for each other. Answers those that began.
-- $2 JSON array of rows
INSERT INTO runtime AS r (workspace_id, project_id, pool, queue_id, plan_id, number, holder, spec_version, spec, state, step, reason,
    message, hint, start_key, start_again, fence, node_id, endpoint, access_key, requested_by, submitted_at, step_at, placed_at,
    running_at, stopped_at, active_at, protected_until, ends_at, ends_because, gang, expected_at, position)
SELECT n.workspace_id, n.project_id, $1::text, n.queue_id, n.plan_id, n.number, n.holder, n.spec_version, n.spec, n.state, n.step,
       n.reason, n.message, n.hint, n.start_key, n.start_again, n.fence, n.node_id, n.endpoint, decode(n.access_key, 'hex'),
       n.requested_by, n.submitted_at, n.step_at, n.placed_at, n.running_at, n.stopped_at, n.active_at, n.protected_until, n.ends_at,
       n.ends_because, n.gang, n.expected_at, n.position
FROM jsonb_to_recordset($2::jsonb) AS n (workspace_id uuid, project_id uuid, queue_id uuid, plan_id uuid, number bigint, holder uuid,
    spec_version bigint, spec jsonb, state text, step text, reason text, message text, hint text, start_key text,
    start_again boolean, fence bigint, node_id uuid, endpoint text, access_key text, requested_by uuid, submitted_at timestamptz,
    step_at timestamptz, placed_at timestamptz, running_at timestamptz, stopped_at timestamptz, active_at timestamptz,
    protected_until timestamptz, ends_at timestamptz, ends_because text,
    gang jsonb, expected_at timestamptz, position integer)
JOIN workspace w ON w.id = n.workspace_id AND w.archived_at IS NULL
ORDER BY n.workspace_id
FOR SHARE OF w
ON CONFLICT (workspace_id) DO UPDATE SET project_id = EXCLUDED.project_id, pool = EXCLUDED.pool, queue_id = EXCLUDED.queue_id,
    plan_id = EXCLUDED.plan_id, number = EXCLUDED.number, holder = EXCLUDED.holder, spec_version = EXCLUDED.spec_version,
    spec = EXCLUDED.spec, state = EXCLUDED.state, step = EXCLUDED.step, reason = EXCLUDED.reason, message = EXCLUDED.message,
    hint = EXCLUDED.hint, start_key = EXCLUDED.start_key, start_again = EXCLUDED.start_again, fence = EXCLUDED.fence,
    node_id = EXCLUDED.node_id, endpoint = EXCLUDED.endpoint, access_key = EXCLUDED.access_key,
    requested_by = EXCLUDED.requested_by, submitted_at = EXCLUDED.submitted_at, step_at = EXCLUDED.step_at,
    placed_at = EXCLUDED.placed_at, running_at = EXCLUDED.running_at, stopped_at = EXCLUDED.stopped_at,
    active_at = EXCLUDED.active_at, protected_until = EXCLUDED.protected_until, ends_at = EXCLUDED.ends_at,
    ends_because = EXCLUDED.ends_because, gang = EXCLUDED.gang, expected_at = EXCLUDED.expected_at,
    position = EXCLUDED.position
WHERE r.state IN ('stopped', 'error') AND r.number < EXCLUDED.number
RETURNING r.workspace_id
