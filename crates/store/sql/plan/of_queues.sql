-- Which plans open queues $1 to which projects, of those among $2.
SELECT pp.project_id, pq.queue_id, p.id, p.name, p.models, p.gpus_max, p.gpu_milli_max, p.cpu_milli_max, p.memory_max, p.lifetime_max_s
FROM plan p JOIN plan_queue pq ON pq.plan_id = p.id JOIN project_plan pp ON pp.plan_id = p.id
WHERE pq.queue_id = ANY ($1::uuid[]) AND pp.project_id = ANY ($2::uuid[]) AND p.archived_at IS NULL
ORDER BY pp.project_id, pq.queue_id, p.name
