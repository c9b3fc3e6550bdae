-- How many runs of a workspace have not ended, by pipeline and status.
-- $1 workspace, $2 limit
SELECT p.name AS pipeline, r.status, count(*) AS runs
  FROM unfinished_run u
  CROSS JOIN LATERAL (SELECT * FROM run WHERE id = u.run_id OFFSET 0) AS r
  JOIN pipeline p ON p.id = r.pipeline_id
 WHERE r.workspace_id = $1
 GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $2
