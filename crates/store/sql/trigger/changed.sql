-- Triggers of these shards ($1) that were edited, started, paused or archived in the last $2 seconds, whatever they are
-- now; at most $3, the latest first. The time is longer than that between two looks, because a transaction becomes visible
-- later than the time that it wrote.
SELECT t.id, t.version
  FROM trigger t
 WHERE t.updated_at > clock_timestamp() - make_interval(secs => $2::float8) AND t.kind <> 'manual'
   AND get_byte(uuid_send(t.pipeline_id), 15) = ANY ($1::int[])
 ORDER BY t.updated_at DESC
 LIMIT $3::bigint
