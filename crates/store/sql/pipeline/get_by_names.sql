-- A pipeline by the name of its workspace and its own, with its version in force.
-- $1 workspace's name, $2 name
SELECT p.id, p.name, p.version, v.bundle_digest, v.spec, p.updated_at, p.archived_at IS NOT NULL AS archived
  FROM workspace w
  JOIN pipeline p ON p.workspace_id = w.id
  JOIN pipeline_version v ON v.pipeline_id = p.id AND v.version = p.version
 WHERE w.name = $1 AND p.name = $2
