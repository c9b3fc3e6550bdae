-- A page by pool, node and name.
-- $1 pool, $2 node, $3 model, each empty for all, $4 last pool, $5 last node, $6 last name of the page before, $7 limit
SELECT d.id, n.pool, n.name, d.name, d.hardware_id, d.class, d.model, d.memory_bytes, d.sharing,
       coalesce(c.enforcement, 'accounting_only'), d.healthy AND n.state = 'ready',
       CASE WHEN d.healthy AND n.state <> 'ready' THEN 'its node is ' || n.state ELSE d.condition END,
       EXISTS (SELECT 1 FROM drained_node x WHERE x.pool = n.pool AND x.node = n.name AND x.device IN ('', d.name)),
       d.used_milli, d.used_memory
  FROM device d JOIN node n ON n.id = d.node_id LEFT JOIN device_class c ON c.name = d.class
 WHERE ($1::text = '' OR n.pool = $1) AND ($2::text = '' OR n.name = $2) AND ($3::text = '' OR d.model = $3)
   AND (n.pool, n.name, d.name) > ($4::text, $5::text, $6::text)
 ORDER BY n.pool, n.name, d.name LIMIT $7
