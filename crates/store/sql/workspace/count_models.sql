-- A page by name of the workspaces in use that a person may see, with the numbers of their models and pipelines in use.
-- $1 last name of the page before, $2 limit, $3 user, or NULL for one who sees all
SELECT w.name,
       (SELECT count(*) FROM model m WHERE m.workspace_id = w.id AND m.archived_at IS NULL) AS models,
       (SELECT count(*) FROM pipeline p WHERE p.workspace_id = w.id AND p.archived_at IS NULL) AS pipelines
  FROM workspace w
 WHERE w.name > $1 AND w.archived_at IS NULL
   AND ($3::uuid IS NULL OR EXISTS (SELECT 1 FROM workspace_access a WHERE a.workspace_id = w.id AND a.user_id = $3))
 ORDER BY w.name LIMIT $2
