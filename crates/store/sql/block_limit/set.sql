-- Defines a limit, or changes it. $1 workspace, $2 name, $3 blocks at once, $4 source
INSERT INTO block_limit AS l (workspace_id, name, max_blocks, source)
VALUES ($1::uuid, $2::text, $3::integer, $4::text)
ON CONFLICT (workspace_id, name) DO UPDATE
   SET max_blocks = EXCLUDED.max_blocks, source = EXCLUDED.source, changed_at = clock_timestamp()
 WHERE (l.max_blocks, l.source) IS DISTINCT FROM (EXCLUDED.max_blocks, EXCLUDED.source)
