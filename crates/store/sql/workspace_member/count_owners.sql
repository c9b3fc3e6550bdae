-- How many of a workspace's owners can sign in: a disabled account owns nothing that it could pass on.
-- $1 workspace
SELECT count(*)
  FROM workspace_member m
  JOIN user_account u ON u.id = m.user_id
 WHERE m.workspace_id = $1 AND m.role = 'owner' AND u.disabled_at IS NULL
