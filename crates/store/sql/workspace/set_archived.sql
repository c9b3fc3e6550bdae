-- Takes a workspace out of use, or back into it; no row where it is so already. Its triggers follow in the same transaction,
-- by trigger/follow_workspace.sql.
-- $1 id, $2 whether archived
UPDATE workspace SET archived_at = CASE WHEN $2::boolean THEN now() END
 WHERE id = $1 AND (archived_at IS NOT NULL) IS DISTINCT FROM $2::boolean
RETURNING id
