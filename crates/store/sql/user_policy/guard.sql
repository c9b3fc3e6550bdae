-- The quotas of persons $1: their own, or everybody's. Nobody else gives anything of them before the transaction ends: after the
-- locks of projects and groups, and locked in order of their ids.
SELECT u.id AS user_id, y.gpu_milli, y.model_milli, y.cpu_milli, y.memory_bytes, y.storage_bytes, y.runtimes
  FROM user_account u
  JOIN LATERAL (
      SELECT * FROM user_policy o WHERE o.user_id IN (u.id, '00000000-0000-0000-0000-000000000000')
       ORDER BY o.user_id <> u.id LIMIT 1) y ON true
 WHERE u.id = ANY ($1::uuid[])
   AND (num_nonnulls(y.gpu_milli, y.cpu_milli, y.memory_bytes, y.storage_bytes, y.runtimes) > 0 OR y.model_milli <> '{}')
 ORDER BY u.id FOR NO KEY UPDATE OF u
