-- Settles what shards hold of pools, as domain::permits::settle does. Claims are absolute: the same ones again change
-- nothing.
-- Guards: a claim counts only while its shard is owned in the epoch that is named ($1, $2); pools are locked in the order
-- of their keys; no pool grants more than its limit, except for units that run already (in_use); of one that does, nothing
-- else is kept.
-- $3 workspaces, $4 keys, $5 names of the limits that hold for them, $6 limits where none is defined, $7 shards,
-- $8 in use, $9 targets, $10 wanted
WITH own AS (
    SELECT s.id FROM shard s
    JOIN unnest($1::smallint[], $2::bigint[]) AS o (id, epoch) ON s.id = o.id AND s.epoch = o.epoch
    FOR SHARE OF s
), asked AS (
    SELECT a.* FROM unnest($3::uuid[], $4::text[], $5::text[], $6::integer[], $7::smallint[], $8::integer[], $9::integer[], $10::integer[])
        AS a (workspace_id, key, limit_name, limit_default, shard, in_use, target, wanted)
    JOIN own ON own.id = a.shard
), named AS (
    SELECT DISTINCT workspace_id, key, limit_name, limit_default FROM asked
), pool AS (
    SELECT p.workspace_id, p.key, p.used, coalesce(l.max_blocks, n.limit_default) AS max
    FROM named n
    JOIN limit_pool p ON p.workspace_id = n.workspace_id AND p.key = n.key
    LEFT JOIN block_limit l ON l.workspace_id = n.workspace_id AND l.name = n.limit_name
    ORDER BY p.workspace_id, p.key
    FOR UPDATE OF p
), kept AS (
    SELECT a.workspace_id, a.key, a.shard, a.target, a.wanted, p.used, p.max, coalesce(h.held, 0) AS held,
           CASE WHEN p.used > p.max THEN a.in_use ELSE greatest(a.in_use, least(coalesce(h.held, 0), a.target)) END AS kept
    FROM asked a
    JOIN pool p ON p.workspace_id = a.workspace_id AND p.key = a.key
    LEFT JOIN limit_hold h ON h.workspace_id = a.workspace_id AND h.key = a.key AND h.shard = a.shard
), room AS (
    SELECT k.*, greatest(target - kept, 0) AS more,
           greatest(max - (used + sum(kept - held) OVER pool), 0) AS free,
           coalesce(sum(greatest(target - kept, 0)) OVER (PARTITION BY workspace_id, key ORDER BY shard
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM kept k
    WINDOW pool AS (PARTITION BY workspace_id, key)
), granted AS (
    SELECT r.*, (kept + least(more, greatest(free - before, 0)))::integer AS granted FROM room r
), holds AS (
    INSERT INTO limit_hold (workspace_id, key, shard, held, wanted)
    SELECT workspace_id, key, shard, granted, wanted FROM granted ORDER BY workspace_id, key, shard
    ON CONFLICT (workspace_id, key, shard) DO UPDATE SET held = EXCLUDED.held, wanted = EXCLUDED.wanted
), pools AS (
    UPDATE limit_pool p SET used = g.used, max = greatest(g.max, g.used)
    FROM (SELECT workspace_id, key, max(max) AS max, (max(used) + sum(granted - held))::integer AS used
          FROM granted GROUP BY workspace_id, key) AS g
    WHERE p.workspace_id = g.workspace_id AND p.key = g.key
)
SELECT g.workspace_id, g.key, g.shard, g.granted, g.max,
       greatest(g.used + sum(g.granted - g.held) OVER (PARTITION BY g.workspace_id, g.key) - g.max, 0)::integer AS excess,
       ARRAY(SELECT h.held FROM limit_hold h WHERE h.workspace_id = g.workspace_id AND h.key = g.key AND h.wanted > 0
             AND NOT EXISTS (SELECT FROM asked a WHERE a.workspace_id = h.workspace_id AND a.key = h.key AND a.shard = h.shard)
             ORDER BY h.shard) AS others_held,
       ARRAY(SELECT h.wanted FROM limit_hold h WHERE h.workspace_id = g.workspace_id AND h.key = g.key AND h.wanted > 0
             AND NOT EXISTS (SELECT FROM asked a WHERE a.workspace_id = h.workspace_id AND a.key = h.key AND a.shard = h.shard)
             ORDER BY h.shard) AS others_wanted
FROM granted g
