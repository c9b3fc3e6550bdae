-- A page of runs, newest first: ids are time-ordered. The page is cut before anything is joined to it.
-- $1 workspace, $2 pipeline or NULL, $3 statuses (empty means all), $4 id of the last run of the page before, $5 limit,
-- $6 backfill or NULL
SELECT r.id, w.name, p.name, r.pipeline_id, r.pipeline_version, r.status, r.variables, r.execution_date, r.created_at,
       r.started_at, r.completed_at, coalesce(r.reason, r.cancel_reason, ''), coalesce(t.name, ''), r.parent_run_id,
       progress.total, progress.done, r.backfill_id, coalesce(f.name, '')
  FROM (
      SELECT *
        FROM run
       WHERE workspace_id = $1
         AND ($2::uuid IS NULL OR pipeline_id = $2)
         AND (cardinality($3::text[]) = 0 OR status = ANY ($3))
         AND ($6::uuid IS NULL OR backfill_id = $6)
         AND id < $4
       ORDER BY id DESC
       LIMIT $5
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
 ORDER BY r.id DESC
