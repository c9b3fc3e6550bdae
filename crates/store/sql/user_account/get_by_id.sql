-- $1 id
SELECT id, email, name, role, created_at, disabled_at IS NOT NULL, password_state FROM user_account WHERE id = $1
