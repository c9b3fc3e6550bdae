-- What the volumes of project $1 count for its quota, those too that are not gone yet; and how many rows they are, with those that
-- are. Hold the project's row of project_usage for an answer that stays true.
SELECT coalesce(sum(v.size_bytes) FILTER (WHERE v.deleted_at IS NULL OR s.state IS DISTINCT FROM 'gone'), 0)::bigint, count(*)
  FROM volume v LEFT JOIN volume_state s ON s.volume_id = v.id
 WHERE v.project_id = $1
