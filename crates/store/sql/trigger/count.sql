-- How many triggers a pipeline has that are not archived, the built-in one apart; counted up to a limit.
-- $1 pipeline, $2 limit
SELECT count(*)
  FROM (SELECT FROM trigger WHERE pipeline_id = $1 AND archived_at IS NULL AND source <> 'built-in' LIMIT $2) AS t
