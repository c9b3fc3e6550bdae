-- A page by address.
-- $1 last address of the page before, $2 limit
SELECT id, email, name, role, created_at, disabled_at IS NOT NULL, password_state FROM user_account WHERE email > $1 ORDER BY email LIMIT $2
