-- $1 id, $2 role or NULL
UPDATE user_account SET role = $2 WHERE id = $1 RETURNING id, email, name, role, created_at, disabled_at IS NOT NULL, password_state
