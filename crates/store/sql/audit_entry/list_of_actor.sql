-- A page of what one actor did, newest first.
-- $1 id of the last entry of the page before, $2 limit, $3 workspace, or NULL for all, $4 actor
SELECT id, at, actor, via, method, object, outcome, reason, detail
  FROM audit_entry
 WHERE actor = $4 AND ($3::uuid IS NULL OR workspace_id = $3) AND id < $1
 ORDER BY id DESC LIMIT $2
