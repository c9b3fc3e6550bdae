-- The models of the fleet.
SELECT DISTINCT d.model FROM device d JOIN node n ON n.id = d.node_id WHERE n.state <> 'gone' ORDER BY d.model
