-- What the volumes of project $1 count for its quota; and how many rows there are, with those of volumes that are gone. Hold the
-- project's row of project_usage for an answer that stays true.
SELECT (SELECT coalesce(sum(size_bytes), 0)::bigint FROM volume_that_counts WHERE project_id = $1),
       (SELECT count(*) FROM volume WHERE project_id = $1)
