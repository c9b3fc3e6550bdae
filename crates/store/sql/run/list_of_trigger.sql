-- As list, of the runs that one trigger started, by its firings: a trigger that seldom fires is found at once beside one that
-- always does. Newest first, those of one commit by the keys of their firings.
-- $1 workspace, $2 statuses (empty means all), $3 trigger, $4 and $5 time and key of the firing of the last run of the page
-- before, $6 limit
SELECT run.id
  FROM firing
  JOIN run ON run.id = firing.run_id
 WHERE firing.trigger_id = $3
   AND (firing.created_at, firing.logical_key) < ($4, $5)
   AND run.workspace_id = $1
   AND (cardinality($2::text[]) = 0 OR run.status = ANY ($2))
   AND run.backfill_id IS NULL
 ORDER BY firing.created_at DESC, firing.logical_key DESC
 LIMIT $6
