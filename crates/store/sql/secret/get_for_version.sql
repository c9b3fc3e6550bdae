-- The secret of this name that a version of a pipeline sees, by the rule of get_for_run: for what is done in its name by
-- nobody's attempt.
-- $1 pipeline, $2 version, $3 name, $4 whether who names none sees all
SELECT s.id, s.project_id, s.workspace_id, s.pipeline, s.name, s.version, s.key_id, s.wrapped_key, s.sealed
  FROM pipeline p
  JOIN pipeline_version v ON v.pipeline_id = p.id AND v.version = $2
  JOIN workspace w ON w.id = p.workspace_id
  JOIN secret s ON s.name = $3 AND s.project_id = w.project_id
               AND ((s.workspace_id = w.id AND s.pipeline IN ('', p.name)) OR s.workspace_id IS NULL)
 WHERE p.id = $1
   AND (s.pipeline <> '' OR coalesce(v.spec -> 'secrets' ? $3, $4::boolean))
 ORDER BY s.pipeline <> '' DESC, s.workspace_id IS NOT NULL DESC
 LIMIT 1
