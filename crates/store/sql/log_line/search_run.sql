-- Lines of a run that fit, newest first.
-- $1 run, $2 id before which, $3 since, $4 until, $5 block or '', $6 block type or '', $7 least level, $8 text or '', $9 limit
SELECT id, at, block, child, lease, level, stream, message, block_type
  FROM log_line
 WHERE run_id = $1
   AND id < $2
   AND at >= $3 AND at < $4
   AND ($5 = '' OR block = $5)
   AND ($6 = '' OR block_type = $6)
   AND level >= $7
   AND ($8 = '' OR position(lower($8 COLLATE "C") IN lower(message COLLATE "C")) > 0)
 ORDER BY id DESC
 LIMIT $9
