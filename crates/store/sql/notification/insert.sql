-- Notes what is to be sent; what was noted before stays as it is.
-- $1 key, $2 workspace, $3 pipeline, $4 version, $5 run or NULL, $6 event, $7 source, $8 channel, $9 facts: one entry each
INSERT INTO notification (key, workspace_id, pipeline_id, pipeline_version, run_id, event, source, channel, facts)
SELECT n.key, n.workspace_id, n.pipeline_id, n.version, n.run_id, n.event, n.source, n.channel, n.facts
  FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::jsonb[])
    AS n (key, workspace_id, pipeline_id, version, run_id, event, source, channel, facts)
ON CONFLICT (key) DO NOTHING
