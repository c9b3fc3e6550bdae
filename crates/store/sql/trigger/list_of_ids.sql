-- Triggers by their ids ($1), whatever they are now; archived ones, and those of archived pipelines and workspaces, are not
-- active. The columns are those of the other lists; whether it was edited or halted, and its state, is not asked here.
SELECT t.id, t.pipeline_id, t.name, t.version,
       t.active AND t.archived_at IS NULL AND p.archived_at IS NULL AND w.archived_at IS NULL, t.enabled_at,
       t.paused_at, t.kind, t.spec, w.name, p.name, t.source, t.created_at, t.updated_at, false, false,
       w.archived_at IS NOT NULL, t.archived_at IS NOT NULL OR p.archived_at IS NOT NULL,
       t.once_version, t.replaced_at, t.former_paused_at, NULL::jsonb
  FROM trigger t
  JOIN pipeline p ON p.id = t.pipeline_id
  JOIN workspace w ON w.id = p.workspace_id
 WHERE t.id = ANY ($1::uuid[])
