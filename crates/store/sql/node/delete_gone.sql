-- Removes nodes of pool $1 that are no more and of which nobody holds anything, with their devices.
WITH gone AS (
    SELECT n.id FROM node n
    WHERE n.pool = $1::text AND n.state = 'gone' AND NOT EXISTS (SELECT FROM placement p WHERE p.node_id = n.id)
), devices AS (
    DELETE FROM device d USING gone WHERE d.node_id = gone.id
)
DELETE FROM node n USING gone WHERE n.id = gone.id RETURNING n.id
