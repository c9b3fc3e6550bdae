-- How queues in use stand, and how long those waited who got a place within the last $2 hours: of each workspace its latest
-- life counts.
-- $1 pool, empty for all, $2 hours
SELECT q.pool, q.name, coalesce(h.milli, 0)::bigint, q.deserved_milli, q.limit_milli,
       count(r.workspace_id) FILTER (WHERE r.state = 'running'),
       count(r.workspace_id) FILTER (WHERE r.waits),
       coalesce(sum(r.milli) FILTER (WHERE r.waits), 0)::bigint,
       coalesce(extract(epoch FROM now() - min(r.submitted_at) FILTER (WHERE r.waits)), 0)::float8,
       count(r.wait_s),
       coalesce(avg(r.wait_s), 0)::float8,
       coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.wait_s), 0)::float8,
       coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY r.wait_s), 0)::float8,
       coalesce(max(r.wait_s), 0)::float8
  FROM queue q
  LEFT JOIN LATERAL (SELECT sum(p.effective_milli) AS milli FROM placement p WHERE p.queue_id = q.id) AS h ON true
  LEFT JOIN LATERAL (
      SELECT t.workspace_id, t.state, t.submitted_at,
             t.state = 'starting' AND t.step IN ('queued', 'nominated') AS waits,
             (t.spec -> 'ask' ->> 'gpus')::bigint * (t.spec -> 'ask' ->> 'gpu_milli')::bigint AS milli,
             CASE WHEN t.placed_at > now() - make_interval(hours => $2::integer)
                  THEN extract(epoch FROM t.placed_at - t.submitted_at)::float8 END AS wait_s
        FROM runtime t WHERE t.queue_id = q.id
         AND (t.state IN ('starting', 'running') OR t.placed_at > now() - make_interval(hours => $2::integer))
  ) AS r ON true
 WHERE q.archived_at IS NULL AND ($1::text = '' OR q.pool = $1)
 GROUP BY q.id, h.milli ORDER BY q.pool, q.priority DESC, q.name
