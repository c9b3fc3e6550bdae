-- A page of members; people come before groups, each by name.
-- $1 project, $2 last key of the page before, $3 limit
SELECT key, email, group_name, role FROM (
    SELECT CASE WHEN m.user_id IS NOT NULL THEN 'a:' || u.email ELSE 'b:' || g.name END AS key,
           coalesce(u.email, '') AS email, coalesce(g.name, '') AS group_name, m.role
      FROM project_member m
      LEFT JOIN user_account u ON u.id = m.user_id
      LEFT JOIN user_group g ON g.id = m.group_id
     WHERE m.project_id = $1
) AS member
 WHERE key > $2 ORDER BY key LIMIT $3
