-- A page of the whole trail, newest first.
-- $1 id of the last entry of the page before, $2 limit
SELECT id, at, actor, via, method, object, outcome, reason, detail
  FROM audit_entry
 WHERE id < $1
 ORDER BY id DESC LIMIT $2
