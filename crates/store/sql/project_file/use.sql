-- What a project has put into the store, bytes: files of deployments, versions of models, and uploads of models as announced.
-- $1 project
SELECT (coalesce((SELECT size_bytes FROM project_file_total WHERE project_id = $1), 0)
      + coalesce((SELECT sum(v.size_bytes) FROM workspace w JOIN model m ON m.workspace_id = w.id
                    JOIN model_version v ON v.model_id = m.id WHERE w.project_id = $1), 0)
      + coalesce((SELECT sum(u.size_bytes) FROM workspace w JOIN model_upload u ON u.workspace_id = w.id
                   WHERE w.project_id = $1), 0))::bigint AS used, p.name
  FROM project p WHERE p.id = $1
