-- The pools of these keys ($1 workspaces, $2 keys), with nothing granted where they are new.
INSERT INTO limit_pool (workspace_id, key, max)
SELECT DISTINCT a.workspace_id, a.key, 0 FROM unnest($1::uuid[], $2::text[]) AS a (workspace_id, key)
ORDER BY 1, 2
ON CONFLICT DO NOTHING
