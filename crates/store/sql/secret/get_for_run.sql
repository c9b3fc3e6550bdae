-- The secret of this name that a run sees: of its pipeline, else of its workspace, else of its project. Only while this
-- attempt is the one that runs: who held it before has no right to it any more. Beyond its own, a pipeline sees what the
-- metadata of the run's version names, or, where that names nothing at all, everything when $6 says so.
-- $1 run, $2 block, $3 child, $4 lease, $5 name, $6 whether who names none sees all
SELECT s.id, s.project_id, s.workspace_id, s.pipeline, s.name, s.version, s.key_id, s.wrapped_key, s.sealed
  FROM run r
  JOIN block_run b ON b.run_id = r.id AND b.block = $2 AND b.child = $3 AND b.lease = $4 AND b.status = 'running'
  JOIN workspace w ON w.id = r.workspace_id
  JOIN pipeline p ON p.id = r.pipeline_id
  JOIN pipeline_version v ON v.pipeline_id = r.pipeline_id AND v.version = r.pipeline_version
  JOIN secret s ON s.name = $5 AND s.project_id = w.project_id
               AND ((s.workspace_id = w.id AND s.pipeline IN ('', p.name)) OR s.workspace_id IS NULL)
 WHERE r.id = $1
   AND (s.pipeline <> '' OR coalesce(v.spec -> 'secrets' ? $5, $6::boolean))
 ORDER BY s.pipeline <> '' DESC, s.workspace_id IS NOT NULL DESC
 LIMIT 1
