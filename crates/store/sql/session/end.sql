-- Ends a session ($1, $2) of which its client has heard nothing more, and waits for that: its transaction is then over, and
-- nothing that is still on its way to it will be done. And whether another one ($3, $4) lives, which proves that this is its server.
SELECT coalesce((SELECT bool_and(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity
                  WHERE pid = $1 AND backend_start = $2), true) AS has_ended,
       EXISTS (SELECT FROM pg_stat_activity WHERE pid = $3 AND backend_start = $4) AS flusher_lives
