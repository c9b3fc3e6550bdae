-- Adds a member or changes the role.
-- $1 workspace, $2 user, $3 role
INSERT INTO workspace_member (workspace_id, user_id, role) VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role
