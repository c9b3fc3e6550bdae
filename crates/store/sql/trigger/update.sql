-- Edits a trigger where the version that the editor saw is in force; no row where it is not. The row's lock makes this
-- wait for firings under way, and whatever commits afterwards finds the new version. An edit of the schedule counts from
-- now on: times before it are none of the new schedule's, and what is left of the former one's is accounted for up to it.
-- Another start makes another @once of it, which comes anew.
-- $1 id, $2 version, $3 kind, $4 spec
UPDATE trigger
   SET kind = $3, spec = $4, version = version + 1, updated_at = now(),
       enabled_at = CASE WHEN spec -> 'kind' IS DISTINCT FROM $4::jsonb -> 'kind' THEN now() ELSE enabled_at END,
       paused_at = CASE WHEN spec -> 'kind' IS DISTINCT FROM $4::jsonb -> 'kind' THEN NULL ELSE paused_at END,
       former_paused_at = CASE
           WHEN spec -> 'kind' IS NOT DISTINCT FROM $4::jsonb -> 'kind' THEN former_paused_at
           WHEN NOT active THEN coalesce(paused_at, former_paused_at) END,
       replaced_at = CASE WHEN spec -> 'kind' IS DISTINCT FROM $4::jsonb -> 'kind' THEN now() ELSE replaced_at END,
       once_version = CASE
           WHEN (spec #> '{kind,every}', spec #> '{kind,start}') IS DISTINCT FROM ($4::jsonb #> '{kind,every}', $4::jsonb #> '{kind,start}')
           THEN version + 1 ELSE once_version END
 WHERE id = $1 AND version = $2 AND archived_at IS NULL AND source <> 'built-in'
RETURNING version
