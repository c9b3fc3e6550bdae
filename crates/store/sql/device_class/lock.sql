-- One change of it at a time.
-- $1 name
SELECT c.name, c.sharing, c.step_milli, c.enforcement, c.models, c.claim_class, c.worth, c.version,
       (SELECT count(*) FROM device d WHERE d.class = c.name)
  FROM device_class c WHERE c.name = $1 FOR UPDATE
