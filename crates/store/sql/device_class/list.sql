-- Every device class, with how many devices are of it.
SELECT c.name, c.sharing, c.step_milli, c.enforcement, c.models, c.claim_class, c.worth, c.version,
       (SELECT count(*) FROM device d WHERE d.class = c.name)
  FROM device_class c ORDER BY c.name
