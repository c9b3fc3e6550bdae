-- A page by name of the workspaces that a person may see.
-- $1 last name of the page before, $2 limit, $3 user, or NULL for one who sees all, $4 archived ones too,
-- $5 only of this project; empty means all
SELECT w.id, w.name, w.created_at, w.bundle_digest, p.name, w.archived_at IS NOT NULL, w.project_id
  FROM workspace w JOIN project p ON p.id = w.project_id
 WHERE w.name > $1 AND ($4::boolean OR w.archived_at IS NULL) AND ($5::text = '' OR p.name = $5)
   AND ($3::uuid IS NULL OR EXISTS (SELECT 1 FROM workspace_access a WHERE a.workspace_id = w.id AND a.user_id = $3))
 ORDER BY w.name LIMIT $2
