-- Takes up to $1 removals that are due, for $2 seconds, after which others may. A run that was taken up again after all
-- keeps its outputs: its mark and its request go.
-- $1 limit, $2 seconds
WITH due AS (
    SELECT run_id
      FROM output_removal
     WHERE not_before <= clock_timestamp()
     ORDER BY not_before
     LIMIT $1::bigint
       FOR UPDATE SKIP LOCKED
), revived AS (
    UPDATE run r SET outputs_expired_at = NULL WHERE r.id = ANY (ARRAY(SELECT run_id FROM due)) AND r.completed_at IS NULL
    RETURNING r.id
), dropped AS (
    DELETE FROM output_removal o USING revived WHERE o.run_id = revived.id
)
UPDATE output_removal o
   SET not_before = clock_timestamp() + make_interval(secs => $2::float8), tries = o.tries + 1
  FROM due
 WHERE o.run_id = due.run_id AND NOT EXISTS (SELECT 1 FROM revived WHERE revived.id = due.run_id)
RETURNING o.run_id, o.bundle_digest, o.tries
