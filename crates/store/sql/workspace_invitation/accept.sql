-- What waited for an address becomes membership.
-- $1 e-mail address in lower case, $2 user
WITH taken AS (DELETE FROM workspace_invitation WHERE email = $1 RETURNING workspace_id, role)
INSERT INTO workspace_member (workspace_id, user_id, role) SELECT workspace_id, $2, role FROM taken
ON CONFLICT DO NOTHING
