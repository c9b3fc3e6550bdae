-- A page of the pipelines in force, by name, without their blocks.
-- $1 workspace, $2 last name of the page before, $3 limit
SELECT p.name, p.version, v.bundle_digest, p.updated_at,
       coalesce(v.spec ->> 'description', ''),
       v.spec ->> 'kind',
       coalesce(v.spec -> 'tags', '[]'),
       jsonb_array_length(v.spec -> 'blocks')
  FROM pipeline p
  JOIN pipeline_version v ON v.pipeline_id = p.id AND v.version = p.version
 WHERE p.workspace_id = $1 AND p.archived_at IS NULL AND p.name > $2
 ORDER BY p.name
 LIMIT $3
