-- Forgets entries that are older than so many seconds, of the first ones behind an id: ids rise with time, so where none of
-- these is old enough, none is. Several servers may do so at once: what one has deleted another finds gone.
-- $1 seconds, $2 behind this id, $3 how many are looked at
WITH first AS MATERIALIZED (
    SELECT id, at FROM audit_entry WHERE id > $2 ORDER BY id LIMIT $3
), gone AS (
    DELETE FROM audit_entry
     WHERE id = ANY (ARRAY(SELECT id FROM first WHERE at < now() - make_interval(secs => $1::float8)))
    RETURNING id
)
SELECT count(*) AS entries, coalesce(max(id), $2) AS last FROM gone
