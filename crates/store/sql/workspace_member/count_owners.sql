-- $1 workspace
SELECT count(*) FROM workspace_member WHERE workspace_id = $1 AND role = 'owner'
