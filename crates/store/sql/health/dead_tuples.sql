-- The tables of this schema with most dead rows. Days of log lines are one.
SELECT regexp_replace(relname, '_[0-9]{8}$', '') AS name, sum(n_dead_tup)::bigint AS dead
  FROM pg_stat_user_tables
 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 12
