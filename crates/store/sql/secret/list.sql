-- A page of names, without values: of a project alone, or of a workspace with its pipelines, or of one pipeline.
-- $1 project, $2 workspace or NULL, $3 pipeline; empty means all of the workspace, $4 and $5 pipeline and name of the last
-- one of the page before, $6 limit
SELECT s.pipeline, s.name, s.version, s.created_at, s.updated_at, coalesce(u.email, ''), s.key_id
  FROM secret s LEFT JOIN user_account u ON u.id = s.updated_by
 WHERE s.project_id = $1 AND s.workspace_id IS NOT DISTINCT FROM $2::uuid AND ($3 = '' OR s.pipeline = $3)
   AND (s.pipeline, s.name) > ($4, $5)
 ORDER BY s.pipeline, s.name LIMIT $6
