-- $1 id, $2 whether archived
UPDATE workspace SET archived_at = CASE WHEN $2::boolean THEN coalesce(archived_at, now()) END WHERE id = $1
