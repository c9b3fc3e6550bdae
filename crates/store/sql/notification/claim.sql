-- Takes what is due in these lanes, of each the oldest and no more than it may have, with the configuration that says
-- where it goes. Until $2 seconds from now nobody else takes it; the number of attempts is the fence of this one.
-- A lane is a range of the index and not four equalities: with these, the planner looks through all lanes by time.
-- $1 limit, $2 seconds, $3 workspaces, $4 pipelines, $5 sources, $6 channels, $7 the most of each: one entry for each lane
WITH due AS (
    SELECT n.id FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::bigint[])
           WITH ORDINALITY AS l (workspace_id, pipeline_id, source, channel, most, place), LATERAL (
        SELECT id FROM notification w
         WHERE w.status = 'pending'
           AND (w.workspace_id, w.pipeline_id, w.source, w.channel, w.not_before)
               >= (l.workspace_id, l.pipeline_id, l.source, l.channel, '-infinity'::timestamptz)
           AND (w.workspace_id, w.pipeline_id, w.source, w.channel, w.not_before)
               <= (l.workspace_id, l.pipeline_id, l.source, l.channel, now())
         ORDER BY w.workspace_id, w.pipeline_id, w.source, w.channel, w.not_before
         LIMIT l.most FOR UPDATE SKIP LOCKED) n
     LIMIT $1
), claimed AS (
    UPDATE notification n SET attempts = n.attempts + 1, not_before = now() + make_interval(secs => $2)
      FROM due WHERE n.id = due.id
    RETURNING n.*
)
SELECT c.id, c.key, c.attempts, c.event, c.channel, c.facts, c.created_at, c.source, c.workspace_id AS lane_workspace,
       c.pipeline_id AS lane_pipeline, coalesce(l.failures, 0) AS failures,
       CASE c.source WHEN 'project' THEN c.pipeline_id END AS of_pipeline, c.pipeline_version AS of_version, o.workspace_id, o.pipeline_id, o.version, o.key_id, o.wrapped_key,
       o.sealed,
       CASE c.source WHEN 'project' THEN v.spec -> 'notification_config' ELSE o.config END AS config
  FROM claimed c
  LEFT JOIN pipeline_version v ON c.source = 'project' AND v.pipeline_id = c.pipeline_id AND v.version = c.pipeline_version
  LEFT JOIN notification_config o ON c.source <> 'project' AND o.workspace_id = c.workspace_id
        AND o.pipeline_id = CASE c.source WHEN 'pipeline' THEN c.pipeline_id ELSE '00000000-0000-0000-0000-000000000000' END
  LEFT JOIN notification_lane l ON l.workspace_id = c.workspace_id AND l.pipeline_id = c.pipeline_id
        AND l.source = c.source AND l.channel = c.channel
 ORDER BY c.id
