-- A page by name.
-- $1 last name of the page before, $2 limit
SELECT g.id, g.name, g.created_at, (SELECT count(*)::integer FROM user_group_member m WHERE m.group_id = g.id) FROM user_group g WHERE g.name > $1 ORDER BY g.name LIMIT $2
