-- Forgets pauses of lanes in which nothing waits any more.
-- $1 seconds since the end of the pause
DELETE FROM notification_lane l
 WHERE l.not_before < now() - make_interval(secs => $1)
   AND NOT EXISTS (SELECT 1 FROM notification n WHERE n.status = 'pending' AND n.workspace_id = l.workspace_id
                    AND n.pipeline_id = l.pipeline_id AND n.source = l.source AND n.channel = l.channel)
