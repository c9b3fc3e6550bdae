-- Lines between two ids that fit, newest first, with the names of what wrote them. Lines whose run is gone do not fit.
-- $1 after this id, $2 up to this one, $3 since, $4 until, $5 workspace, $6 pipeline or NULL, $7 trigger or NULL,
-- $8 block or '', $9 block type or '', $10 least level, $11 text or '', $12 limit
SELECT l.id, l.at, l.block, l.child, l.lease, l.level, l.stream, l.message, l.block_type, l.run_id,
       p.name AS pipeline, coalesce(t.name, '') AS trigger
  FROM log_line l
  JOIN run r ON r.id = l.run_id
  JOIN pipeline p ON p.id = r.pipeline_id
  LEFT JOIN trigger t ON t.id = r.trigger_id
 WHERE l.id > $1 AND l.id <= $2
   AND l.at >= $3 AND l.at < $4
   AND r.workspace_id = $5
   AND ($6::uuid IS NULL OR r.pipeline_id = $6)
   AND ($7::uuid IS NULL OR r.trigger_id = $7)
   AND ($8 = '' OR l.block = $8)
   AND ($9 = '' OR l.block_type = $9)
   AND l.level >= $10
   AND ($11 = '' OR position(lower($11 COLLATE "C") IN lower(l.message COLLATE "C")) > 0)
 ORDER BY l.id DESC
 LIMIT $12
