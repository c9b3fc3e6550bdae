-- What these lives hold, in order of the devices' names.
-- $1 holders
SELECT g.holder, d.name, d.hardware_id, d.class, d.model, g.milli, g.memory_bytes,
       coalesce(c.enforcement, 'accounting_only'), d.healthy
  FROM grant_of_device g JOIN device d ON d.id = g.device_id LEFT JOIN device_class c ON c.name = d.class
 WHERE g.holder = ANY ($1::uuid[]) ORDER BY d.name
