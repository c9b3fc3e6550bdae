-- A page by address.
-- $1 group, $2 last address of the page before, $3 limit
SELECT u.id, u.email, u.name, u.role, u.created_at, u.disabled_at IS NOT NULL, u.password_state
  FROM user_group_member m JOIN user_account u ON u.id = m.user_id
 WHERE m.group_id = $1 AND u.email > $2 ORDER BY u.email LIMIT $3
