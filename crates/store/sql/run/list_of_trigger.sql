-- As list, of the runs that one trigger started, by its firings: a trigger that seldom fires is found at once beside one that
-- always does. Newest first, those of one commit by the keys of their firings.
-- $1 workspace, $2 statuses (empty means all), $3 trigger, $4 and $5 time and key of the firing of the last run of the page
-- before, $6 limit
SELECT r.id, w.name, p.name, r.pipeline_id, r.pipeline_version, r.status, r.variables, r.execution_date, r.created_at,
       r.started_at, r.completed_at, coalesce(r.reason, r.cancel_reason, ''), coalesce(t.name, ''), r.parent_run_id,
       progress.total, progress.done, r.backfill_id, coalesce(f.name, '')
  FROM (
      SELECT run.*, firing.created_at AS fired_at, firing.logical_key
        FROM firing
        JOIN run ON run.id = firing.run_id
       WHERE firing.trigger_id = $3
         AND (firing.created_at, firing.logical_key) < ($4, $5)
         AND run.workspace_id = $1
         AND (cardinality($2::text[]) = 0 OR run.status = ANY ($2))
         AND run.backfill_id IS NULL
       ORDER BY firing.created_at DESC, firing.logical_key DESC
       LIMIT $6
  ) AS r
  JOIN workspace w ON w.id = r.workspace_id
  JOIN pipeline p ON p.id = r.pipeline_id
  LEFT JOIN trigger t ON t.id = r.trigger_id
  LEFT JOIN backfill f ON f.id = r.backfill_id
  LEFT JOIN pipeline_version v ON v.pipeline_id = r.pipeline_id AND v.version = r.pipeline_version
  CROSS JOIN LATERAL (
      SELECT count(*)::integer AS total, count(b.block)::integer AS done
        FROM jsonb_array_elements(v.spec -> 'blocks') AS spec (block)
        LEFT JOIN block_run b ON b.run_id = r.id AND b.block = spec.block ->> 'uuid' AND b.child = -1
                             AND b.status NOT IN ('initial', 'running')
       WHERE spec.block ->> 'kind' NOT IN ('markdown', 'chart', 'scratchpad')
  ) AS progress
 ORDER BY r.fired_at DESC, r.logical_key DESC
