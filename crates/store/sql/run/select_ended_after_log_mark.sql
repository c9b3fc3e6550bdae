-- Ended runs of a pipeline whose lines may still be there, oldest end first: behind the pipeline's mark, and ended before
-- a time. In two parts, since each has an index.
-- $1 pipeline, $2 the time, $3 limit
WITH mark AS (
    SELECT coalesce(max(completed_at), '-infinity') AS completed_at,
           coalesce((array_agg(run_id))[1], '00000000-0000-0000-0000-000000000000') AS run_id
      FROM pipeline_log_mark WHERE pipeline_id = $1
), ended AS (
    (SELECT r.id, r.completed_at FROM run r, mark m
      WHERE r.pipeline_id = $1 AND r.completed_at IS NOT NULL AND r.outputs_expired_at IS NULL AND r.completed_at < $2
        AND r.completed_at >= m.completed_at AND (r.completed_at, r.id) > (m.completed_at, m.run_id)
      ORDER BY r.completed_at, r.id LIMIT $3)
    UNION ALL
    (SELECT r.id, r.completed_at FROM run r, mark m
      WHERE r.pipeline_id = $1 AND r.outputs_expired_at IS NOT NULL AND r.completed_at < $2
        AND r.completed_at >= m.completed_at AND (r.completed_at, r.id) > (m.completed_at, m.run_id)
      ORDER BY r.completed_at, r.id LIMIT $3)
)
SELECT id, completed_at FROM ended ORDER BY completed_at, id LIMIT $3
