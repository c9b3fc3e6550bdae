-- Devices by pool and model, with what is held of them. Kept is what nominations are to get; broken is what is idle on devices
-- of which a part is held.
-- $1 pool, empty for all
SELECT n.pool, d.model, count(*),
       (1000 * count(*) FILTER (WHERE d.healthy AND n.state = 'ready' AND x.node IS NULL))::bigint,
       coalesce(sum(d.used_milli), 0)::bigint,
       coalesce(sum(k.milli), 0)::bigint,
       coalesce(sum(1000 - d.used_milli) FILTER (WHERE d.used_milli > 0), 0)::bigint
  FROM device d
  JOIN node n ON n.id = d.node_id
  LEFT JOIN LATERAL (
      SELECT r.node FROM drained_node r WHERE r.pool = n.pool AND r.node = n.name AND r.device IN ('', d.name) LIMIT 1
  ) AS x ON true
  LEFT JOIN LATERAL (
      SELECT sum(g.milli) AS milli FROM grant_of_device g WHERE g.device_id = d.id AND g.state = 'nominated'
  ) AS k ON true
 WHERE $1::text = '' OR n.pool = $1
 GROUP BY n.pool, d.model ORDER BY n.pool, d.model
