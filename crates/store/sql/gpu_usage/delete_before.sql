-- Forgets what was free again at a time.
-- $1 the time, $2 limit
DELETE FROM gpu_usage u
 USING (SELECT o.holder, o.held_at FROM gpu_usage o
         WHERE tstzrange(o.held_at, o.freed_at) << tstzrange($1::timestamptz, NULL) LIMIT $2::bigint) AS old
 WHERE u.holder = old.holder AND u.held_at = old.held_at
