-- $1 name
SELECT p.id, p.name, p.created_at, coalesce(u.email, ''), coalesce(g.name, ''), p.archived_at IS NOT NULL
  FROM project p
  LEFT JOIN user_account u ON u.id = p.owner_user_id
  LEFT JOIN user_group g ON g.id = p.owner_group_id
 WHERE p.name = $1
