-- Removals that failed come again: after a minute, then after twice as long each time, at most after six hours.
-- $1 runs, $2 why each of them failed
UPDATE output_removal o
   SET error = left(f.error, 1000),
       not_before = clock_timestamp() + make_interval(secs => least(21600, 60 * power(2, least(o.tries, 9)))::float8)
  FROM unnest($1::uuid[], $2::text[]) AS f (run_id, error)
 WHERE o.run_id = f.run_id
