-- What the volumes of pool $1 shall be, $2 at most, those first that are there. One that is gone is told for a month: a pool may
-- have executors with folders of their own that were away.
SELECT v.id, p.name AS project, v.name, v.size_bytes, v.storage_class, v.deleted_at IS NOT NULL AS deleted
  FROM volume v
  JOIN project p ON p.id = v.project_id
  LEFT JOIN volume_state s ON s.volume_id = v.id
 WHERE v.pool = $1 AND (v.deleted_at IS NULL OR s.state IS DISTINCT FROM 'gone' OR v.deleted_at > now() - interval '30 days')
 ORDER BY v.deleted_at IS NOT NULL AND s.state IS NOT DISTINCT FROM 'gone', v.id LIMIT $2
