-- A page by pool, node and name. The reason of a drain is that of its node's, where both are drained.
-- $1 pool, $2 node, $3 model, each empty for all, $4 last pool, $5 last node, $6 last name of the page before, $7 limit
SELECT d.id, n.pool, n.name, d.name, d.hardware_id, d.class, d.model, d.memory_bytes, d.sharing,
       coalesce(c.enforcement, 'accounting_only'), d.healthy AND n.state = 'ready',
       CASE WHEN d.healthy AND n.state <> 'ready' THEN 'its node is ' || n.state ELSE d.condition END,
       CASE WHEN NOT d.healthy THEN 'DEVICE_UNHEALTHY' WHEN n.state <> 'ready' THEN 'NODE_' || upper(n.state)
            WHEN x.device = '' THEN 'NODE_DRAINED' WHEN x.device <> '' THEN 'DEVICE_DRAINED' ELSE '' END,
       x.device IS NOT NULL, coalesce(x.reason, ''), d.used_milli, d.used_memory
  FROM device d JOIN node n ON n.id = d.node_id LEFT JOIN device_class c ON c.name = d.class
  LEFT JOIN LATERAL (
      SELECT r.device, r.reason FROM drained_node r
       WHERE r.pool = n.pool AND r.node = n.name AND r.device IN ('', d.name) ORDER BY r.device LIMIT 1
  ) AS x ON true
 WHERE ($1::text = '' OR n.pool = $1) AND ($2::text = '' OR n.name = $2) AND ($3::text = '' OR d.model = $3)
   AND (n.pool, n.name, d.name) > ($4::text, $5::text, $6::text)
 ORDER BY n.pool, n.name, d.name LIMIT $7
