-- Of locked pools ($1 workspaces, $2 keys) those of which no shard holds or wants anything, as it is now that they are locked.
-- Whoever waited for one finds none, and makes it anew (ensure.sql).
DELETE FROM limit_pool p USING unnest($1::uuid[], $2::text[]) AS i (workspace_id, key)
WHERE p.workspace_id = i.workspace_id AND p.key = i.key AND p.used = 0
  AND NOT EXISTS (SELECT FROM limit_hold h WHERE h.workspace_id = p.workspace_id AND h.key = p.key)
