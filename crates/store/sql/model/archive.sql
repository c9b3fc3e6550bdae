-- Takes a model out of lists. Twice is no error; no row when there is none of this name.
-- $1 workspace, $2 name
UPDATE model SET archived_at = coalesce(archived_at, now()) WHERE workspace_id = $1 AND name = $2
