-- Lines of some runs, up to a limit.
-- $1 runs, $2 limit
WITH old AS (
    SELECT run_id, id FROM log_line WHERE run_id = ANY ($1::uuid[]) ORDER BY run_id, id LIMIT $2
)
DELETE FROM log_line l USING old WHERE l.run_id = old.run_id AND l.id = old.id
