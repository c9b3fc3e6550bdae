-- The owner who was there first; the operator of the cluster acts as this one.
SELECT id, email, name, role, created_at, disabled_at IS NOT NULL, password_state FROM user_account WHERE role = 'owner' AND disabled_at IS NULL ORDER BY created_at, id LIMIT 1
