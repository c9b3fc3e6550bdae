-- A page by name of the projects that a person may see.
-- $1 user, or NULL for one who sees all, $2 last name of the page before, $3 limit
SELECT p.id, p.name, p.created_at, coalesce(u.email, ''), coalesce(g.name, ''), p.archived_at IS NOT NULL
  FROM project p
  LEFT JOIN user_account u ON u.id = p.owner_user_id
  LEFT JOIN user_group g ON g.id = p.owner_group_id
 WHERE p.name > $2 AND p.archived_at IS NULL
   AND ($1::uuid IS NULL OR EXISTS (SELECT 1 FROM project_access a WHERE a.project_id = p.id AND a.user_id = $1))
 ORDER BY p.name LIMIT $3
