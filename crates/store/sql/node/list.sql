-- A page by pool and name.
-- $1 pool, empty is all, $2 last pool and $3 last name of the page before, $4 limit
SELECT n.pool, n.name, n.zone, n.state, x.node IS NOT NULL, coalesce(x.reason, ''), n.cpu_milli, n.cpu_used, n.memory_bytes,
       n.memory_used, count(d.id), coalesce(sum(d.used_milli), 0)
  FROM node n
  LEFT JOIN drained_node x ON x.pool = n.pool AND x.node = n.name AND x.device = ''
  LEFT JOIN device d ON d.node_id = n.id
 WHERE ($1::text = '' OR n.pool = $1) AND (n.pool, n.name) > ($2::text, $3::text)
 GROUP BY n.id, x.node, x.reason
 ORDER BY n.pool, n.name LIMIT $4
