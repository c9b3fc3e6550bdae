-- What all living schedulers have to do, and the executors that are there to do it. One row.
SELECT s.schedulers, s.ready_units, s.running_units, s.ready_units_kubernetes, s.running_units_kubernetes, s.busy_permille,
       e.executors, e.slots
FROM (SELECT count(*) AS schedulers, coalesce(sum(ready_units), 0) AS ready_units,
             coalesce(sum(running_units), 0) AS running_units,
             coalesce(sum(ready_units_kubernetes), 0) AS ready_units_kubernetes,
             coalesce(sum(running_units_kubernetes), 0) AS running_units_kubernetes,
             coalesce(sum(busy_permille), 0) AS busy_permille
      FROM scheduler WHERE lease_until > clock_timestamp()) AS s,
     (SELECT count(*) AS executors, coalesce(sum(slots), 0) AS slots FROM executor WHERE state = 'online') AS e
