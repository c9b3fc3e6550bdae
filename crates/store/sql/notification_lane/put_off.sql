-- A receiver did not take a message: its lane waits, twice as long each time. Of messages that were sent at once, the
-- first one counts.
-- $1 workspace, $2 pipeline, $3 source, $4 channel, $5 seconds of the first pause, $6 of the longest
INSERT INTO notification_lane AS l (workspace_id, pipeline_id, source, channel, failures, not_before)
VALUES ($1, $2, $3, $4, 1, now() + make_interval(secs => $5::float8))
ON CONFLICT (workspace_id, pipeline_id, source, channel) DO UPDATE
   SET failures = least(l.failures + 1, 20),
       not_before = now() + make_interval(secs => least($5::float8 * 2 ^ l.failures, $6::float8))
 WHERE l.not_before <= now()
