-- The plans of a project that open a queue, by name.
-- $1 project, $2 queue
SELECT l.id, l.name, l.models, l.gpus_max, l.gpu_milli_max, l.cpu_milli_max, l.memory_max, l.lifetime_max_s
  FROM plan l
  JOIN project_plan g ON g.plan_id = l.id AND g.project_id = $1
  JOIN plan_queue b ON b.plan_id = l.id AND b.queue_id = $2
 WHERE l.archived_at IS NULL
 ORDER BY l.name
