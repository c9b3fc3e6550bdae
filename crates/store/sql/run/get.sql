-- Runs with the names that people know them by, and how far each is, in the order in which they are asked for. Inert blocks count
-- on neither side.
-- $1 runs
SELECT r.id, w.name, p.name, r.pipeline_id, r.pipeline_version, r.status, r.variables, r.execution_date, r.created_at,
       r.started_at, r.completed_at, coalesce(r.reason, r.cancel_reason, ''), coalesce(t.name, ''), r.parent_run_id,
       progress.total, progress.done, r.backfill_id, coalesce(f.name, '')
  FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, place)
  CROSS JOIN LATERAL (SELECT * FROM run WHERE id = asked.id OFFSET 0) AS r
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
 ORDER BY asked.place
