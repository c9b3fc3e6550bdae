-- One trigger that is not archived, of a pipeline that is not.
-- $1 id
SELECT t.id, t.pipeline_id, t.name, t.version, t.active, t.enabled_at, t.paused_at, t.kind, t.spec,
       w.name, p.name, t.source, t.created_at, t.updated_at,
       t.desired IS NOT NULL AND t.desired -> 'spec' IS DISTINCT FROM t.spec,
       coalesce((s.state ->> 'halted')::bigint = t.version, false), w.archived_at IS NOT NULL, false,
       t.once_version, t.replaced_at, t.former_paused_at, s.state - 'waiting' - 'schedule'
  FROM trigger t
  JOIN pipeline p ON p.id = t.pipeline_id AND p.archived_at IS NULL
  JOIN workspace w ON w.id = p.workspace_id
  LEFT JOIN trigger_state s ON s.trigger_id = t.id
 WHERE t.id = $1 AND t.archived_at IS NULL
