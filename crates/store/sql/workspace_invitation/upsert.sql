-- $1 workspace, $2 e-mail address in lower case, $3 role, $4 by whom
INSERT INTO workspace_invitation (workspace_id, email, role, invited_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, email) DO UPDATE SET role = excluded.role
