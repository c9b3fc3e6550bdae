-- Seconds since the start of the oldest transaction of this database that may keep dead rows from removal.
SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8 AS seconds
  FROM pg_stat_activity
 WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
   AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
