-- Lives as root that have not begun to end, of projects of a group that let them be so; by workspace, each with how many there
-- are in all.
-- $1 group, $2 limit
SELECT w.name, p.name, r.state, q.name, r.spec, r.plan_id, r.ends_at, r.ends_because, r.running_at,
       r.node_id IS NOT NULL, count(*) OVER ()
  FROM project p
  JOIN project_policy y ON y.project_id = p.id
  JOIN workspace w ON w.project_id = p.id
  JOIN runtime r ON r.workspace_id = w.id
  JOIN queue q ON q.id = r.queue_id
 WHERE p.owner_group_id = $1 AND y.allow_root
   AND r.state IN ('starting', 'running') AND (r.spec ->> 'root')::boolean
 ORDER BY w.name LIMIT $2
