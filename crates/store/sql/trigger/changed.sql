-- Triggers of these shards ($1) that were edited, started, paused or archived in the last $2 seconds, whatever they are
-- now; a page of at most $3 after the time $4 and the id $5, in their order, so that however many are edited at once, all of
-- them are found. The time is longer than that between two looks, because a transaction becomes visible later than the time
-- that it wrote.
SELECT t.id, t.version, t.updated_at
  FROM trigger t
 WHERE t.updated_at > clock_timestamp() - make_interval(secs => $2::float8) AND t.kind <> 'manual'
   AND get_byte(uuid_send(t.pipeline_id), 15) = ANY ($1::int[])
   AND (t.updated_at, t.id) > ($4::timestamptz, $5::uuid)
 ORDER BY t.updated_at, t.id
 LIMIT $3::bigint
