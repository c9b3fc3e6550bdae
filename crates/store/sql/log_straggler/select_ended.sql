-- Stragglers of a pipeline that ended before a time, or are forgotten, and when each was noted.
-- $1 pipeline, $2 the time, $3 limit
SELECT s.run_id, s.noted_at
  FROM log_straggler s
  LEFT JOIN LATERAL (SELECT id, completed_at FROM run WHERE id = s.run_id OFFSET 0) AS r ON true
 WHERE s.pipeline_id = $1 AND (r.id IS NULL OR r.completed_at < $2)
 LIMIT $3
