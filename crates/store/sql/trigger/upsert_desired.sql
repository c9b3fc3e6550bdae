-- What the project's file wants of a trigger. Where the file says the same as at the last deployment, what is in force
-- stays, with all that was edited since, archiving included, and its row is not even locked: to those that fire it, it would be
-- an edit under way; where it says something else, that holds, and the version rises. A trigger of
-- another source with this name becomes the project's. What it means to schedules is as in insert.sql and update.sql. Answers the trigger, and whether it is new; NULL when nothing was changed.
-- $1 id, $2 pipeline, $3 name, $4 kind, $5 active, $6 spec, $7 desired
WITH kept AS (
    SELECT id FROM trigger
     WHERE pipeline_id = $2::uuid AND name = $3::text AND source = 'project' AND desired = $7::jsonb
), changed AS (
    INSERT INTO trigger AS t (id, pipeline_id, name, kind, active, spec, source, desired)
    SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::boolean, $6::jsonb, 'project', $7::jsonb
     WHERE NOT EXISTS (SELECT FROM kept)
    ON CONFLICT (pipeline_id, name) DO UPDATE
       SET kind = excluded.kind, active = excluded.active, spec = excluded.spec, source = 'project',
           desired = excluded.desired, version = t.version + 1, updated_at = now(), archived_at = NULL,
           enabled_at = CASE
               WHEN t.archived_at IS NOT NULL OR t.kind <> excluded.kind OR t.active < excluded.active
                 OR t.spec -> 'kind' IS DISTINCT FROM excluded.spec -> 'kind'
               THEN now() ELSE t.enabled_at END,
           paused_at = CASE
               WHEN t.archived_at IS NOT NULL OR t.spec -> 'kind' IS DISTINCT FROM excluded.spec -> 'kind' THEN NULL
               WHEN t.active > excluded.active THEN now()
               ELSE t.paused_at END,
           former_paused_at = CASE
               WHEN t.archived_at IS NOT NULL THEN NULL
               WHEN t.spec -> 'kind' IS NOT DISTINCT FROM excluded.spec -> 'kind' THEN t.former_paused_at
               WHEN NOT t.active THEN coalesce(t.paused_at, t.former_paused_at)
               WHEN NOT excluded.active THEN now() END,
           replaced_at = CASE
               WHEN t.archived_at IS NOT NULL THEN to_timestamp(0)
               WHEN t.spec -> 'kind' IS DISTINCT FROM excluded.spec -> 'kind' THEN now()
               ELSE t.replaced_at END,
           once_version = CASE
               WHEN t.archived_at IS NOT NULL
                 OR (t.spec #> '{kind,every}', t.spec #> '{kind,start}')
                    IS DISTINCT FROM (excluded.spec #> '{kind,every}', excluded.spec #> '{kind,start}')
               THEN t.version + 1 ELSE t.once_version END
     WHERE t.source <> 'built-in'
       AND (t.desired IS DISTINCT FROM excluded.desired OR t.source <> 'project')
    RETURNING t.id, t.xmax = 0 AS created
)
SELECT id, created FROM changed
UNION ALL
SELECT id, NULL FROM trigger WHERE pipeline_id = $2::uuid AND name = $3::text
LIMIT 1
