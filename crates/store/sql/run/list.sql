-- A page of runs, newest first: ids are time-ordered.
-- $1 workspace, $2 pipeline or NULL, $3 statuses (empty means all), $4 id of the last run of the page before, $5 limit,
-- $6 backfill or NULL
SELECT id
  FROM run
 WHERE workspace_id = $1
   AND ($2::uuid IS NULL OR pipeline_id = $2)
   AND (cardinality($3::text[]) = 0 OR status = ANY ($3))
   AND ($6::uuid IS NULL OR backfill_id = $6)
   AND id < $4
 ORDER BY id DESC
 LIMIT $5
