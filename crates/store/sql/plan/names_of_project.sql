-- $1 project
SELECT l.name FROM plan l JOIN project_plan g ON g.plan_id = l.id
 WHERE g.project_id = $1 AND l.archived_at IS NULL ORDER BY l.name
