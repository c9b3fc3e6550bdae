-- Members and invitations together.
-- $1 workspace
SELECT (SELECT count(*) FROM workspace_member WHERE workspace_id = $1)
     + (SELECT count(*) FROM workspace_invitation WHERE workspace_id = $1)
