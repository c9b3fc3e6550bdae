-- The secrets that runs' metadata names where their outputs are kept, with the run: of each name the pipeline's, else the
-- workspace's, else the project's.
-- $1 runs
SELECT DISTINCT ON (r.id, s.name)
       s.id, s.project_id, s.workspace_id, s.pipeline, s.name, s.version, s.key_id, s.wrapped_key, s.sealed, r.id AS run_id
  FROM run r
  JOIN workspace w ON w.id = r.workspace_id
  JOIN pipeline p ON p.id = r.pipeline_id
  JOIN pipeline_version v ON v.pipeline_id = r.pipeline_id AND v.version = r.pipeline_version
  JOIN secret s ON s.project_id = w.project_id AND v.spec -> 'place_secrets' ? s.name
               AND ((s.workspace_id = w.id AND s.pipeline IN ('', p.name)) OR s.workspace_id IS NULL)
 WHERE r.id = ANY ($1::uuid[])
 ORDER BY r.id, s.name, s.pipeline <> '' DESC, s.workspace_id IS NOT NULL DESC
