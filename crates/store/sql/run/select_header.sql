-- Whose a run is and how it stands, without its variables and its units.
-- $1 run
SELECT r.id, r.workspace_id, w.name AS workspace, r.status, r.reason, r.execution_date
  FROM run r
  JOIN workspace w ON w.id = r.workspace_id
 WHERE r.id = $1::uuid
