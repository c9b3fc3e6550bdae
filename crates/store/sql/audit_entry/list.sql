-- A page, newest first.
-- $1 workspace, or NULL for all, $2 actor; empty means all, $3 id of the last entry of the page before, $4 limit
SELECT id, at, actor, via, method, object, outcome, reason, detail
  FROM audit_entry
 WHERE ($1::uuid IS NULL OR workspace_id = $1) AND ($2::text = '' OR actor = $2) AND id < $3
 ORDER BY id DESC LIMIT $4
