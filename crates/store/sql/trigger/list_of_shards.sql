-- A page of what the owner of some shards has to fire: active triggers other than manual ones, by id;
-- none of archived workspaces.
-- $1 shards, $2 last id of the page before, $3 limit
SELECT t.id, t.pipeline_id, t.name, t.version, t.active, t.enabled_at, t.paused_at, t.kind, t.spec,
       w.name, p.name, t.source, t.created_at, t.updated_at,
       t.desired IS NOT NULL AND t.desired -> 'spec' IS DISTINCT FROM t.spec,
       coalesce((s.state ->> 'halted')::bigint = t.version, false), false, false,
       t.once_version, t.replaced_at, t.former_paused_at, NULL::jsonb
  FROM trigger t
  JOIN pipeline p ON p.id = t.pipeline_id AND p.archived_at IS NULL
  JOIN workspace w ON w.id = p.workspace_id AND w.archived_at IS NULL
  LEFT JOIN trigger_state s ON s.trigger_id = t.id
 WHERE get_byte(uuid_send(t.pipeline_id), 15) = ANY ($1::int[]) AND t.id > $2
   AND t.active AND t.archived_at IS NULL AND t.kind <> 'manual'
 ORDER BY t.id
 LIMIT $3
