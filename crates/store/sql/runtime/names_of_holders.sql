-- The workspaces of these lives that a person may see.
-- $1 holders, $2 user, or NULL for one who sees all
SELECT w.name FROM runtime r JOIN workspace w ON w.id = r.workspace_id
 WHERE r.holder = ANY ($1::uuid[])
   AND ($2::uuid IS NULL OR EXISTS (SELECT 1 FROM workspace_access a WHERE a.workspace_id = w.id AND a.user_id = $2))
 ORDER BY w.name
