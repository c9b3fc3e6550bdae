-- One row while this session ($1, $2) lives.
SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2
