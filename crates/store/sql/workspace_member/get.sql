-- $1 workspace, $2 user
SELECT role FROM workspace_member WHERE workspace_id = $1 AND user_id = $2
