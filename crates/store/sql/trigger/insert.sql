-- Creates a trigger. A name that an archived trigger of the same pipeline had is taken over, with its id and history,
-- under a higher version, and nothing of the former one's schedule is owed; no row when a living trigger has the name.
-- Its tokens are dropped before, by trigger_token/delete_of_archived.sql.
-- $1 id, $2 pipeline, $3 name, $4 kind, $5 active, $6 spec
INSERT INTO trigger AS t (id, pipeline_id, name, kind, active, spec, source)
VALUES ($1, $2, $3, $4, $5, $6, 'api')
ON CONFLICT (pipeline_id, name) DO UPDATE
   SET kind = excluded.kind, active = excluded.active, spec = excluded.spec, source = 'api', desired = NULL,
       version = t.version + 1, updated_at = now(), archived_at = NULL, enabled_at = now(), paused_at = NULL,
       replaced_at = to_timestamp(0), former_paused_at = NULL, once_version = t.version + 1
 WHERE t.archived_at IS NOT NULL AND t.source <> 'built-in'
RETURNING t.id
