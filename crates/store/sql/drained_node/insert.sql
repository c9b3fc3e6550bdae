-- $1 pool, $2 node, $3 device or empty, $4 reason
INSERT INTO drained_node (pool, node, device, reason) VALUES ($1, $2, $3, $4)
ON CONFLICT (pool, node, device) DO UPDATE SET reason = $4
