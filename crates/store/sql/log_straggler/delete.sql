-- The lines of these are gone. One that runs again by now was noted later, and stays; so does one that is noted at this moment.
-- $1 pipeline, $2 runs, $3 when each was noted
DELETE FROM log_straggler WHERE ctid = ANY (ARRAY(
    SELECT s.ctid
      FROM unnest($2::uuid[], $3::timestamptz[]) AS gone (run_id, noted_at)
     CROSS JOIN LATERAL (
           SELECT ctid FROM log_straggler
            WHERE pipeline_id = $1 AND run_id = gone.run_id AND noted_at = gone.noted_at FOR UPDATE SKIP LOCKED) AS s))
