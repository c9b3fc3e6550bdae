-- $1 project, $2 plan
DELETE FROM project_plan WHERE project_id = $1 AND plan_id = $2
