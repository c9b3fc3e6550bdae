-- A page of a workspace's triggers, by pipeline and name.
-- $1 workspace, $2 pipeline's name or NULL for all, $3 and $4 pipeline and trigger of the last row of the page before,
-- $5 limit, $6 archived ones too, and those of archived pipelines
SELECT t.id, t.pipeline_id, t.name, t.version, t.active, t.enabled_at, t.paused_at, t.kind, t.spec,
       w.name, p.name, t.source, t.created_at, t.updated_at,
       t.desired IS NOT NULL AND t.desired -> 'spec' IS DISTINCT FROM t.spec,
       coalesce((s.state ->> 'halted')::bigint = t.version, false), w.archived_at IS NOT NULL,
       t.archived_at IS NOT NULL OR p.archived_at IS NOT NULL,
       t.once_version, t.replaced_at, t.former_paused_at, s.state - 'waiting' - 'schedule'
  FROM trigger t
  JOIN pipeline p ON p.id = t.pipeline_id
  JOIN workspace w ON w.id = p.workspace_id
  LEFT JOIN trigger_state s ON s.trigger_id = t.id
 WHERE p.workspace_id = $1 AND ($6::bool OR t.archived_at IS NULL AND p.archived_at IS NULL)
   AND ($2::text IS NULL OR p.name = $2)
   AND (p.name, t.name) > ($3, $4)
 ORDER BY p.name, t.name
 LIMIT $5
