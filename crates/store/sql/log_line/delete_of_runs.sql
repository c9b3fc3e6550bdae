-- Lines of some runs, up to a limit: how many were found, and how many of them nobody else deleted meanwhile.
-- $1 runs, $2 limit
WITH old AS (
    SELECT run_id, id FROM log_line WHERE run_id = ANY ($1::uuid[]) ORDER BY run_id, id LIMIT $2
), gone AS (
    DELETE FROM log_line l USING old WHERE l.run_id = old.run_id AND l.id = old.id RETURNING 1
)
SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone)
