-- Partitions of whole days before a time, oldest first, with what they take on disk.
-- $1 the time
SELECT c.relname::text AS name, pg_total_relation_size(c.oid) AS bytes
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'log_line'::regclass
   AND c.relname ~ '^log_line_[0-9]{8}$'
   AND (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' <= $1::timestamptz
 ORDER BY c.relname
