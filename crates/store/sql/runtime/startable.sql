-- What a start of workspace $1 needs: what its runtime is to be, and how its last life stands.
SELECT w.project_id, w.name AS workspace, p.name AS project, s.version, s.spec, s.queue_id, q.pool,
       r.number, r.state, r.start_key, r.spec AS last_spec
FROM workspace w
JOIN project p ON p.id = w.project_id
LEFT JOIN runtime_spec s ON s.workspace_id = w.id
LEFT JOIN queue q ON q.id = s.queue_id AND q.archived_at IS NULL
LEFT JOIN runtime r ON r.workspace_id = w.id
WHERE w.id = $1::uuid AND w.archived_at IS NULL
