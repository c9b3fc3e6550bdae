-- A page of what was done in one workspace, newest first.
-- $1 id of the last entry of the page before, $2 limit, $3 workspace
SELECT id, at, actor, via, method, object, outcome, reason, detail
  FROM audit_entry
 WHERE workspace_id = $3 AND id < $1
 ORDER BY id DESC LIMIT $2
