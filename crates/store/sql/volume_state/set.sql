-- What executors say about volumes. Only one that was deleted can be gone, and it stays so.
-- $1 JSON array of rows. Guard: the pool's shard $2 is owned in epoch $3.
WITH own AS (
    SELECT s.id FROM shard s WHERE s.id = $2::smallint AND s.epoch = $3::bigint FOR SHARE
)
INSERT INTO volume_state AS s (volume_id, state, size_bytes, message)
SELECT v.id, n.state, n.size_bytes, n.message
  FROM own, jsonb_to_recordset($1::jsonb) AS n (volume_id uuid, state text, size_bytes bigint, message text)
  JOIN volume v ON v.id = n.volume_id
 WHERE n.state <> 'gone' OR v.deleted_at IS NOT NULL
 ORDER BY v.id
ON CONFLICT (volume_id) DO UPDATE
   SET state = EXCLUDED.state, size_bytes = EXCLUDED.size_bytes, message = EXCLUDED.message, changed_at = now()
 WHERE s.state <> 'gone'
   AND (s.state, s.size_bytes, s.message) IS DISTINCT FROM (EXCLUDED.state, EXCLUDED.size_bytes, EXCLUDED.message)
