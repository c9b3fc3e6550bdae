-- $1 workspace, $2 user
DELETE FROM workspace_member WHERE workspace_id = $1 AND user_id = $2
