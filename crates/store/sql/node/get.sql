-- Whether there is such a node, and such a device of it.
-- $1 pool, $2 node, $3 device, empty is none in particular
SELECT 1 FROM node n
 WHERE n.pool = $1 AND n.name = $2 AND ($3::text = '' OR EXISTS (SELECT 1 FROM device d WHERE d.node_id = n.id AND d.name = $3))
