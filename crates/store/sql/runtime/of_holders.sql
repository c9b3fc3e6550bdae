-- Whose lives these are.
-- $1 holders
SELECT r.holder, w.name AS workspace, p.name AS project, q.name AS queue, q.preemptible
  FROM runtime r
  JOIN workspace w ON w.id = r.workspace_id
  JOIN project p ON p.id = r.project_id
  JOIN queue q ON q.id = r.queue_id
 WHERE r.holder = ANY ($1::uuid[])
