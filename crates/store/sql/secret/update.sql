-- A new value over the version before it; nothing when that is not in force any more.
-- $1 project, $2 workspace or NULL, $3 pipeline or empty, $4 name, $5 version, $6 id of the key, $7 wrapped key,
-- $8 sealed value, $9 by whom
UPDATE secret SET version = $5, key_id = $6, wrapped_key = $7, sealed = $8, updated_by = $9, updated_at = now()
 WHERE project_id = $1 AND workspace_id IS NOT DISTINCT FROM $2::uuid AND pipeline = $3 AND name = $4
   AND version = $5::bigint - 1
