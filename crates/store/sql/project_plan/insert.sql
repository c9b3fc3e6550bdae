-- $1 project, $2 plan
INSERT INTO project_plan (project_id, plan_id) VALUES ($1, $2) ON CONFLICT DO NOTHING
