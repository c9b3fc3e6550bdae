-- Notifications of a workspace, newest first.
-- $1 workspace, $2 id before which, $3 run or NULL, $4 limit
SELECT n.id, coalesce(p.name, '') AS pipeline, n.run_id, n.event, n.source, n.channel, n.status, n.attempts,
       n.not_before, coalesce(n.error, '') AS error, n.created_at, n.ended_at
  FROM notification n
  LEFT JOIN pipeline p ON p.id = n.pipeline_id
 WHERE n.workspace_id = $1 AND n.id < $2 AND ($3::uuid IS NULL OR n.run_id = $3)
 ORDER BY n.id DESC
 LIMIT $4
