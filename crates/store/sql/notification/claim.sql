-- Takes what is due, with the configuration that says where it goes. Until $2 seconds from now nobody else takes it;
-- the number of attempts is the fence of this one.
-- $1 limit, $2 seconds
WITH due AS (
    SELECT id FROM notification WHERE status = 'pending' AND not_before <= now()
    ORDER BY not_before LIMIT $1 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE notification n SET attempts = n.attempts + 1, not_before = now() + make_interval(secs => $2)
      FROM due WHERE n.id = due.id
    RETURNING n.*
)
SELECT c.id, c.key, c.attempts, c.event, c.channel, c.facts, c.created_at, o.workspace_id, o.pipeline_id, o.version, o.key_id, o.wrapped_key,
       o.sealed,
       CASE c.source WHEN 'project' THEN v.spec -> 'notification_config' ELSE o.config END AS config
  FROM claimed c
  LEFT JOIN pipeline_version v ON c.source = 'project' AND v.pipeline_id = c.pipeline_id AND v.version = c.pipeline_version
  LEFT JOIN notification_config o ON c.source <> 'project' AND o.workspace_id = c.workspace_id
        AND o.pipeline_id = CASE c.source WHEN 'pipeline' THEN c.pipeline_id ELSE '00000000-0000-0000-0000-000000000000' END
 ORDER BY c.id
