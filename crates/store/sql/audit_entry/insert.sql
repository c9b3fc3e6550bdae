-- $1 user or NULL, $2 actor, $3 via, $4 method, $5 project or NULL, $6 workspace or NULL, $7 object, $8 outcome,
-- $9 reason, $10 detail
INSERT INTO audit_entry (user_id, actor, via, method, project_id, workspace_id, object, outcome, reason, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
