-- Pipelines and how long they keep outputs, runs and log lines, seconds, by the version in force. Archived ones keep
-- theirs as long.
-- $1 workspace, or NULL for all; $2 name, or NULL for all
SELECT p.id, p.name, (v.spec ->> 'outputs_retention_s')::bigint AS retention_s,
       (v.spec ->> 'runs_retention_s')::bigint AS runs_retention_s,
       (v.spec ->> 'logs_retention_s')::bigint AS logs_retention_s
  FROM pipeline p
  JOIN pipeline_version v ON v.pipeline_id = p.id AND v.version = p.version
 WHERE ($1::uuid IS NULL OR p.workspace_id = $1::uuid) AND ($2::text IS NULL OR p.name = $2::text)
 ORDER BY p.id
