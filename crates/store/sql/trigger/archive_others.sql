-- Archives the project's triggers of a pipeline that its file no longer names; answers their names and ids. Their tokens
-- are dropped after it.
-- $1 pipeline, $2 names to keep
UPDATE trigger
   SET archived_at = now(), updated_at = now(), active = false, version = version + 1, desired = NULL
 WHERE pipeline_id = $1 AND source = 'project' AND archived_at IS NULL AND name <> ALL ($2)
RETURNING name, id
