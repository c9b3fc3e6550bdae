-- Of locked pools ($1 workspaces, $2 keys) what says that a shard holds and wants nothing, which is what no row says too.
DELETE FROM limit_hold h USING unnest($1::uuid[], $2::text[]) AS i (workspace_id, key)
WHERE h.workspace_id = i.workspace_id AND h.key = i.key AND h.held = 0 AND h.wanted = 0
