-- No row when the name is taken meanwhile.
-- $1 id, $2 name, $3 pool, $4 priority, $5 preemptible, $6 deserved, $7 limit or NULL, $8 weight
INSERT INTO queue (id, name, pool, priority, preemptible, deserved_milli, limit_milli, weight)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING version
