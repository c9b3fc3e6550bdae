-- How the product of a pipeline stands now: whether a completed run has its outputs, whether one of these is young enough, and
-- the last refresh that somebody asked for. All are seen at one instant, so that a refresh which ends just then is either young
-- or under way.
-- Always one row.
-- $1 the pipeline, $2 its trigger for people and code, $3 seconds after which its outputs are out of date,
-- $4 and $5 the least and the greatest key of a refresh
SELECT EXISTS (
           SELECT FROM run r
            WHERE r.pipeline_id = $1 AND r.status = 'completed' AND r.outputs_expired_at IS NULL
              AND r.completed_at > now() - make_interval(secs => $3::float8)
              AND r.execution_date > now() - make_interval(secs => $3::float8)
       ) AS young,
       EXISTS (
           SELECT FROM run r WHERE r.pipeline_id = $1 AND r.status = 'completed' AND r.outputs_expired_at IS NULL
       ) AS kept,
       now() AS now,
       f.logical_key, f.run_id, coalesce(f.completed_at IS NULL AND f.id IS NOT NULL, false) AS open
  FROM (SELECT) AS one
  LEFT JOIN LATERAL (
           SELECT f.logical_key, f.run_id, r.id, r.completed_at
             FROM firing f
             LEFT JOIN run r ON r.id = f.run_id
            WHERE f.trigger_id = $2 AND f.logical_key BETWEEN $4 AND $5 AND starts_with(f.logical_key, 'product:')
            ORDER BY f.logical_key DESC
            LIMIT 1
       ) AS f ON true
