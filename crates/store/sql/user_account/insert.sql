-- A person; no row when the address is taken.
-- $1 id, $2 e-mail address in lower case, $3 name, $4 password hash or NULL, $5 password state, $6 role or NULL
INSERT INTO user_account (id, email, name, password_hash, password_state, role) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (email) DO NOTHING
RETURNING id, email, name, role, created_at, disabled_at IS NOT NULL, password_state
