-- Desired state of a trigger from the project or built in. The version rises only when something changed.
-- $1 id, $2 pipeline, $3 name, $4 kind, $5 active, $6 spec, $7 source
INSERT INTO trigger AS t (id, pipeline_id, name, kind, active, spec, source)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (pipeline_id, name) DO UPDATE
   SET kind = excluded.kind, active = excluded.active, spec = excluded.spec, source = excluded.source,
       version = t.version + 1, updated_at = now(), archived_at = NULL
 WHERE (t.kind, t.active, t.spec, t.source) IS DISTINCT FROM
       (excluded.kind, excluded.active, excluded.spec, excluded.source)
    OR t.archived_at IS NOT NULL
