-- What happened to a runtime, newest first.
-- $1 workspace, $2 before this id, $3 limit
SELECT e.id, e.at, e.number, e.state, e.step, e.reason, e.message, coalesce(u.email, '')
  FROM runtime_event e LEFT JOIN user_account u ON u.id = e.actor
 WHERE e.workspace_id = $1 AND e.id < $2 ORDER BY e.id DESC LIMIT $3
