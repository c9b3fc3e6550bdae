-- Answers the role that was offered; no row when nothing was.
-- $1 workspace, $2 e-mail address in lower case
DELETE FROM workspace_invitation WHERE workspace_id = $1 AND email = $2 RETURNING role
