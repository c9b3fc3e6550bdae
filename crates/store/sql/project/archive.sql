-- Archives a project that has no workspace left in use and is nobody's personal one.
-- $1 id
UPDATE project p SET archived_at = coalesce(archived_at, now())
 WHERE p.id = $1 AND p.owner_user_id IS NULL
   AND NOT EXISTS (SELECT 1 FROM workspace w WHERE w.project_id = p.id AND w.archived_at IS NULL)
RETURNING p.id
