-- Runs of a pipeline whose lines nobody has looked at, oldest first: created after the run that was passed last and before a time,
-- and whether they ended before it as well. In two parts, since each has an index, of which the mark is a bound: it is asked for as a
-- value, and not joined.
-- $1 pipeline, $2 the time, $3 limit
WITH passed AS (
    SELECT coalesce(max(created_at), '-infinity') AS created_at,
           coalesce((array_agg(run_id))[1], '00000000-0000-0000-0000-000000000000') AS run_id
      FROM pipeline_log_passed WHERE pipeline_id = $1
), next AS (
    (SELECT id, created_at, completed_at FROM run
      WHERE pipeline_id = $1 AND outputs_expired_at IS NULL AND created_at < $2
        AND created_at >= (SELECT created_at FROM passed)
        AND (created_at, id) > ((SELECT created_at FROM passed), (SELECT run_id FROM passed))
      ORDER BY created_at, id LIMIT $3)
    UNION ALL
    (SELECT id, created_at, completed_at FROM run
      WHERE pipeline_id = $1 AND outputs_expired_at IS NOT NULL AND created_at < $2
        AND created_at >= (SELECT created_at FROM passed)
        AND (created_at, id) > ((SELECT created_at FROM passed), (SELECT run_id FROM passed))
      ORDER BY created_at, id LIMIT $3)
)
SELECT id, created_at, coalesce(completed_at < $2, false) AS has_ended FROM next ORDER BY created_at, id LIMIT $3
