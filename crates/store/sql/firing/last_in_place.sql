-- Runs that code started by one call, each in the place of the one before: the last of them, and whether the next one may be
-- started. So it is where that one ended badly, and was made before the attempt that asks began: what one attempt asks for
-- twice is one run; and where it was forgotten, which only old ones are. Who holds the unit no more starts none.
-- Always one row.
-- $1 the trigger of all of them, $2 the first one, $3 what keys of the others begin with, before the run that each follows
-- $4 to $7 the attempt: run, block, child, lease
WITH RECURSIVE line (run_id, place) AS (
    SELECT $2::uuid, 0
    UNION ALL
    SELECT f.run_id, line.place + 1
      FROM line
      JOIN firing f ON f.trigger_id = $1::uuid AND f.logical_key = $3::text || line.run_id
), last AS (
    SELECT line.run_id FROM line ORDER BY line.place DESC LIMIT 1
)
SELECT last.run_id,
       coalesce(CASE WHEN r.id IS NULL THEN b.run_id IS NOT NULL
                     ELSE r.status IN ('failed', 'cancelled') AND r.created_at < b.attempt_started_at END, false) AS is_over
  FROM last
  LEFT JOIN run r ON r.id = last.run_id
  LEFT JOIN block_run b ON b.run_id = $4::uuid AND b.block = $5::text AND b.child = $6::integer AND b.lease = $7::bigint
                       AND b.status = 'running'
