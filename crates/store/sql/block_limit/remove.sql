-- Removes a limit ($2) of a workspace ($1); answers no row when there was none.
UPDATE block_limit SET max_blocks = NULL, changed_at = clock_timestamp()
WHERE workspace_id = $1::uuid AND name = $2::text AND max_blocks IS NOT NULL
RETURNING name
