-- Whose files a run executes.
-- $1 run
SELECT v.bundle_digest
  FROM run r
  JOIN pipeline_version v ON v.pipeline_id = r.pipeline_id AND v.version = r.pipeline_version
 WHERE r.id = $1::uuid
