-- Writes how lives stand. Only the life of that number is written; answers how many were.
-- $1 JSON array of rows
UPDATE runtime r SET queue_id = n.queue_id, plan_id = n.plan_id, state = n.state, step = n.step, reason = n.reason,
    message = n.message, hint = n.hint, start_again = n.start_again, fence = n.fence, node_id = n.node_id, endpoint = n.endpoint,
    step_at = n.step_at, placed_at = n.placed_at, running_at = n.running_at, stopped_at = n.stopped_at, active_at = n.active_at,
    protected_until = n.protected_until, ends_at = n.ends_at, ends_because = n.ends_because,
    expected_at = n.expected_at, position = n.position
FROM jsonb_to_recordset($1::jsonb) AS n (workspace_id uuid, queue_id uuid, plan_id uuid, number bigint, state text, step text,
    reason text, message text, hint text, start_again boolean, fence bigint, node_id uuid, endpoint text, step_at timestamptz,
    placed_at timestamptz, running_at timestamptz, stopped_at timestamptz, active_at timestamptz, protected_until timestamptz,
    ends_at timestamptz, ends_because text, expected_at timestamptz, position integer)
WHERE r.workspace_id = n.workspace_id AND r.number = n.number
