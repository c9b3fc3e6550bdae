-- What counts for persons $1, over all pools.
SELECT u.user_id, p.cpu_milli, p.memory_bytes, p.effective_milli, p.storage_bytes, p.model
  FROM placement_user u JOIN placement p ON p.holder = u.holder
 WHERE u.user_id = ANY ($1::uuid[])
