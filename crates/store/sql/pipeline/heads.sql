-- Every pipeline of a workspace with its version in force, archived ones too.
-- $1 workspace
SELECT p.id, p.name, p.version, v.bundle_digest, v.spec, p.updated_at, p.archived_at IS NOT NULL AS archived
  FROM pipeline p
  JOIN pipeline_version v ON v.pipeline_id = p.id AND v.version = p.version
 WHERE p.workspace_id = $1
 ORDER BY p.name
