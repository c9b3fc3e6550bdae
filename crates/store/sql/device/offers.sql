-- The kinds of devices in a pool.
-- $1 pool
SELECT d.model, d.sharing, max(d.memory_bytes), coalesce(c.enforcement, 'accounting_only')
  FROM device d JOIN node n ON n.id = d.node_id LEFT JOIN device_class c ON c.name = d.class
 WHERE n.pool = $1 AND n.state <> 'gone'
 GROUP BY d.model, d.sharing, c.enforcement
