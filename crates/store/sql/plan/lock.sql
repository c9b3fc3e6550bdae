-- A plan by name, and one change of it at a time.
-- $1 name
SELECT l.id, l.name, l.models, l.gpus_max, l.gpu_milli_max, l.cpu_milli_max, l.memory_max, l.lifetime_max_s, l.version,
       l.archived_at IS NOT NULL,
       ARRAY(SELECT q.name FROM plan_queue b JOIN queue q ON q.id = b.queue_id WHERE b.plan_id = l.id ORDER BY q.name),
       ARRAY(SELECT p.name FROM project_plan g JOIN project p ON p.id = g.project_id WHERE g.plan_id = l.id ORDER BY p.name)
  FROM plan l WHERE l.name = $1 FOR UPDATE OF l
