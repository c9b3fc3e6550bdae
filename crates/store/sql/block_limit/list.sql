-- The limits of a workspace ($1), with what is in use of each: of a pattern, over all of its keys.
SELECT l.name, l.max_blocks, l.source, l.changed_at,
       (SELECT coalesce(sum(p.used), 0) FROM limit_pool p
         WHERE p.workspace_id = l.workspace_id
           AND (p.key = l.name OR (right(l.name, 1) = '*' AND starts_with(p.key, left(l.name, -1)))))::bigint AS used
FROM block_limit l
WHERE l.workspace_id = $1::uuid AND l.max_blocks IS NOT NULL
ORDER BY l.name
