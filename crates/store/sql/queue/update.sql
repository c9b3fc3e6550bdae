-- Changes it and takes it back into use. Hold its lock.
-- $1 id, $2 pool, $3 priority, $4 preemptible, $5 deserved, $6 limit or NULL, $7 weight
UPDATE queue SET pool = $2, priority = $3, preemptible = $4, deserved_milli = $5, limit_milli = $6, weight = $7,
                 version = version + 1, archived_at = NULL
 WHERE id = $1
RETURNING version
