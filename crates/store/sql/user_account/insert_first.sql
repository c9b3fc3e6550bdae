-- The first person, an owner by a one-time password; no row when anybody is there. Two servers that start together and
-- agree on the address make one.
-- $1 id, $2 e-mail address in lower case, $3 password hash
INSERT INTO user_account (id, email, password_hash, password_state, role)
SELECT $1, $2, $3, 'one-time', 'owner' WHERE NOT EXISTS (SELECT 1 FROM user_account)
ON CONFLICT (email) DO NOTHING
RETURNING id, email, name, role, created_at, disabled_at IS NOT NULL, password_state
