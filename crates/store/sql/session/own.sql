-- What this session is called: no other one of this server has had, or will have, both.
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
