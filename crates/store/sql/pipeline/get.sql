-- A pipeline by name with its version in force.
-- $1 workspace, $2 name
SELECT p.id, p.name, p.version, v.bundle_digest, v.spec, p.updated_at, p.archived_at IS NOT NULL AS archived
  FROM pipeline p
  JOIN pipeline_version v ON v.pipeline_id = p.id AND v.version = p.version
 WHERE p.workspace_id = $1 AND p.name = $2
