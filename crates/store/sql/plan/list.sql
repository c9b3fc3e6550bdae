-- A page by name. A person without a role over the cluster gets those of her projects.
-- $1 last name of the page before, $2 limit, $3 archived ones too, $4 user, or NULL for one who sees all
SELECT l.id, l.name, l.models, l.gpus_max, l.gpu_milli_max, l.cpu_milli_max, l.memory_max, l.lifetime_max_s, l.version,
       l.archived_at IS NOT NULL,
       ARRAY(SELECT q.name FROM plan_queue b JOIN queue q ON q.id = b.queue_id WHERE b.plan_id = l.id ORDER BY q.name),
       ARRAY(SELECT p.name FROM project_plan g JOIN project p ON p.id = g.project_id
              WHERE g.plan_id = l.id AND ($4::uuid IS NULL OR EXISTS (
                    SELECT 1 FROM project_access a WHERE a.project_id = p.id AND a.user_id = $4))
              ORDER BY p.name)
  FROM plan l
 WHERE l.name > $1 AND ($3::boolean OR l.archived_at IS NULL)
   AND ($4::uuid IS NULL OR EXISTS (
           SELECT 1 FROM project_plan g JOIN project_access a ON a.project_id = g.project_id AND a.user_id = $4
            WHERE g.plan_id = l.id))
 ORDER BY l.name LIMIT $2
