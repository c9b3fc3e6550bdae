-- Where devices are, and what they are called there.
-- $1 devices
SELECT d.id, n.name AS node, d.name AS device FROM device d JOIN node n ON n.id = d.node_id WHERE d.id = ANY ($1::uuid[])
