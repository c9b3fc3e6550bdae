-- Every secret that run $6 may be given, whichever of them it asks for, by the rule of get_for_run but also where a narrower
-- one of the same name is there: for whoever must know the values to hide them. Only while the attempt that asks is the one
-- that runs, else no row; one row of NULLs where there is no secret.
-- $1 asking run, $2 block, $3 child, $4 lease, $5 whether who names none sees all, $6 run
SELECT s.id, s.project_id, s.workspace_id, s.pipeline, s.name, s.version, s.key_id, s.wrapped_key, s.sealed
  FROM block_run b
  JOIN run r ON r.id = $6
  JOIN workspace w ON w.id = r.workspace_id
  JOIN pipeline p ON p.id = r.pipeline_id
  JOIN pipeline_version v ON v.pipeline_id = r.pipeline_id AND v.version = r.pipeline_version
  LEFT JOIN secret s ON s.project_id = w.project_id
                    AND ((s.workspace_id = w.id AND s.pipeline IN ('', p.name)) OR s.workspace_id IS NULL)
                    AND (s.pipeline <> '' OR coalesce(v.spec -> 'secrets' ? s.name, $5::boolean))
 WHERE b.run_id = $1 AND b.block = $2 AND b.child = $3 AND b.lease = $4 AND b.status = 'running'
 ORDER BY s.name, s.id
