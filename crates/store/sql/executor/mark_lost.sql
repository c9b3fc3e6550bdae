-- Executors that no scheduler has heard of for $1 seconds, whoever knew them last.
UPDATE executor SET state = 'lost', running = 0
WHERE state IN ('online', 'draining') AND last_seen_at < clock_timestamp() - make_interval(secs => $1::float8)
