-- Makes the project's limits of a workspace ($1) what its file says ($2 names, $3 blocks at once): one that somebody set
-- by the API stays as it is, one that the file no longer names is removed.
WITH desired AS (
    SELECT * FROM unnest($2::text[], $3::integer[]) AS d (name, max_blocks)
), gone AS (
    UPDATE block_limit l SET max_blocks = NULL, changed_at = clock_timestamp()
    WHERE l.workspace_id = $1::uuid AND l.source = 'project' AND l.max_blocks IS NOT NULL
      AND l.name NOT IN (SELECT name FROM desired)
)
INSERT INTO block_limit AS l (workspace_id, name, max_blocks, source)
SELECT $1::uuid, d.name, d.max_blocks, 'project' FROM desired d ORDER BY d.name
ON CONFLICT (workspace_id, name) DO UPDATE
   SET max_blocks = EXCLUDED.max_blocks, source = 'project', changed_at = clock_timestamp()
 WHERE (l.source = 'project' OR l.max_blocks IS NULL) AND l.max_blocks IS DISTINCT FROM EXCLUDED.max_blocks
