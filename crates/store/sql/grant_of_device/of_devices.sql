-- Who holds what of these devices.
-- $1 devices
SELECT g.device_id, coalesce(w.name, ''), coalesce(p.name, ''), coalesce(q.name, ''), g.milli, g.memory_bytes, g.state
  FROM grant_of_device g
  LEFT JOIN runtime r ON r.holder = g.holder
  LEFT JOIN workspace w ON w.id = r.workspace_id
  LEFT JOIN project p ON p.id = w.project_id
  LEFT JOIN queue q ON q.id = r.queue_id
 WHERE g.device_id = ANY ($1::uuid[]) ORDER BY g.device_id, w.name
