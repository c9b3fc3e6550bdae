-- $1 pool, $2 node, $3 device or empty
DELETE FROM drained_node WHERE pool = $1 AND node = $2 AND device = $3
