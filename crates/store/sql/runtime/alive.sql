-- Lives that have not ended, by workspace, narrowed by whatever is not NULL.
-- $1 project, $2 queue, $3 plan, $4 device class, $5 pool, $6 node of it, $7 device of that, $8 limit, $9 group that owns the
-- project, $10 workspace, $11 person for whose quota they count
SELECT w.name, p.name, r.state, q.name, r.spec, r.plan_id, r.ends_at, r.ends_because, r.running_at,
       r.node_id IS NOT NULL
  FROM runtime r
  JOIN workspace w ON w.id = r.workspace_id
  JOIN project p ON p.id = w.project_id
  JOIN queue q ON q.id = r.queue_id
 WHERE r.state IN ('starting', 'running', 'stopping')
   AND ($1::uuid IS NULL OR r.project_id = $1)
   AND ($2::uuid IS NULL OR r.queue_id = $2)
   AND ($3::uuid IS NULL OR r.plan_id = $3)
   AND ($4::text IS NULL OR EXISTS (
           SELECT 1 FROM grant_of_device g JOIN device d ON d.id = g.device_id WHERE g.holder = r.holder AND d.class = $4))
   AND ($6::text IS NULL OR r.pool = $5::text AND EXISTS (
           SELECT 1 FROM placement c JOIN node n ON n.id = c.node_id WHERE c.holder = r.holder AND n.name = $6))
   AND ($7::text IS NULL OR EXISTS (
           SELECT 1 FROM grant_of_device g JOIN device d ON d.id = g.device_id WHERE g.holder = r.holder AND d.name = $7))
   AND ($9::uuid IS NULL OR p.owner_group_id = $9)
   AND ($10::uuid IS NULL OR w.id = $10)
   AND ($11::uuid IS NULL OR coalesce(r.requested_by, p.owner_user_id) = $11)
 ORDER BY w.name LIMIT $8
