-- Nodes and devices of pool $1 that take nobody new.
SELECT node, device FROM drained_node WHERE pool = $1::text ORDER BY node, device
