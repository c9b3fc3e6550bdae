-- Where messages wait, as far as that is known without opening any configuration: by workspace, pipeline, place of the
-- configuration and channel. One look into the index for each, however many wait there. In the order of the lanes, after
-- one of them.
-- $1 workspace, $2 pipeline, $3 source, $4 channel of the one before, $5 limit
WITH RECURSIVE lane AS (
    (SELECT workspace_id, pipeline_id, source, channel FROM notification
      WHERE status = 'pending' AND (workspace_id, pipeline_id, source, channel) > ($1::uuid, $2::uuid, $3::text, $4::text)
      ORDER BY workspace_id, pipeline_id, source, channel LIMIT 1)
    UNION ALL
    SELECT next.* FROM lane, LATERAL (
        SELECT n.workspace_id, n.pipeline_id, n.source, n.channel FROM notification n
         WHERE n.status = 'pending'
           AND (n.workspace_id, n.pipeline_id, n.source, n.channel) > (lane.workspace_id, lane.pipeline_id, lane.source, lane.channel)
         ORDER BY n.workspace_id, n.pipeline_id, n.source, n.channel LIMIT 1) next
)
SELECT l.workspace_id, l.pipeline_id, l.source, l.channel, coalesce(p.failures, 0) AS failures,
       coalesce(p.not_before <= now(), true) AS is_open
  FROM (SELECT * FROM lane LIMIT $5) l
  LEFT JOIN notification_lane p USING (workspace_id, pipeline_id, source, channel)
 ORDER BY l.workspace_id, l.pipeline_id, l.source, l.channel
