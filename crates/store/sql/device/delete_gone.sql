-- Removes devices of node $1 that are not among $2, where nobody holds anything of them; the others become unhealthy.
WITH gone AS (
    SELECT d.id, EXISTS (SELECT FROM grant_of_device g WHERE g.device_id = d.id) AS held FROM device d
    WHERE d.node_id = $1::uuid AND d.id <> ALL ($2::uuid[])
), removed AS (
    DELETE FROM device d USING gone WHERE d.id = gone.id AND NOT gone.held
)
UPDATE device d SET healthy = false, condition = 'its node does not report it any more'
FROM gone WHERE d.id = gone.id AND gone.held
