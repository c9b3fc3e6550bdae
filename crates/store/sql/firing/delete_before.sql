-- Forgets firings whose run is gone, or that started none, of triggers and of backfills that have ended. They are kept for
-- $1 seconds, and of a trigger for its catch-up window at least, in which its times may be asked for again. Firings of
-- `@once` stay for ever: they are what keeps it from coming twice.
-- $1 seconds, $2 firings of one source, $3 firings in all
WITH source AS (
    SELECT t.id, greatest($1::float8, coalesce((t.spec -> 'catch_up' -> 'all' ->> 'window_s')::float8, 0)) AS kept_s FROM trigger t
    UNION ALL
    SELECT b.id, $1::float8 FROM backfill b WHERE b.completed_at IS NOT NULL
), gone AS (
    SELECT f.trigger_id, f.logical_key
      FROM source s
     CROSS JOIN LATERAL (
           SELECT f.trigger_id, f.logical_key
             FROM firing f
            WHERE f.trigger_id = s.id AND f.created_at < now() - make_interval(secs => s.kept_s)
              AND f.logical_key <> 'once' AND NOT starts_with(f.logical_key, 'once:')
              AND (f.run_id IS NULL OR NOT EXISTS (SELECT 1 FROM run r WHERE r.id = f.run_id))
            ORDER BY f.created_at, f.logical_key
            LIMIT $2::bigint) f
     LIMIT $3::bigint
)
DELETE FROM firing f USING gone WHERE f.trigger_id = gone.trigger_id AND f.logical_key = gone.logical_key
