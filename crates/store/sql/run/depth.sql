-- How many runs lie above a run, each of which started the next by its code; counted up to a bound. A run that was made again
-- as a whole is as deep as the one that it was made from.
-- $1 run, $2 bound, $3 the most runs to look at, $4 what keys of runs begin with that were made again
WITH RECURSIVE line (run_id, depth, place) AS (
    SELECT $1::uuid, 0, 0
    UNION ALL
    SELECT r.parent_run_id, line.depth + of_run.step, line.place + 1
      FROM line
     CROSS JOIN LATERAL (SELECT * FROM run WHERE id = line.run_id AND parent_run_id IS NOT NULL OFFSET 0) AS r
     CROSS JOIN LATERAL (
           SELECT CASE WHEN EXISTS (
                  SELECT FROM firing f
                   WHERE f.trigger_id = coalesce(r.backfill_id, r.trigger_id) AND f.created_at = r.created_at
                     AND f.run_id = r.id AND starts_with(f.logical_key, $4::text)) THEN 0 ELSE 1 END AS step) of_run
     WHERE line.depth < $2::integer AND line.place < $3::integer
)
SELECT max(depth) AS depth FROM line
