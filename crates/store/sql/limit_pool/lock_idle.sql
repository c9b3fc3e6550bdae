-- Locks up to $1 pools of which nothing is held or wanted, to be forgotten: keys of expressions may be used once and never
-- again. Pools of keys that are limits by their own name, and those of workspaces, stay: there are few.
-- Guards: a pool that somebody settles is left for the next time. Whoever wants to settle one from here on waits for its lock,
-- as limit_hold/settle.sql does.
SELECT p.workspace_id, p.key FROM limit_pool p
WHERE p.used = 0 AND p.key <> 'workspace'
  AND NOT EXISTS (SELECT FROM limit_hold h
                  WHERE h.workspace_id = p.workspace_id AND h.key = p.key AND (h.held > 0 OR h.wanted > 0))
  AND NOT EXISTS (SELECT FROM block_limit l
                  WHERE l.workspace_id = p.workspace_id AND l.name = p.key AND l.max_blocks IS NOT NULL)
LIMIT $1::bigint
FOR UPDATE OF p SKIP LOCKED
