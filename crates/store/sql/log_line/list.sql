-- Lines of a run, as they were stored. Case is ignored in ASCII letters.
-- $1 run, $2 id of the last line of the page before, $3 block or '' for all, $4 least level, $5 text or '', $6 limit
SELECT id, at, block, child, lease, level, stream, message, block_type
  FROM log_line
 WHERE run_id = $1
   AND id > $2
   AND ($3 = '' OR block = $3)
   AND level >= $4
   AND ($5 = '' OR position(lower($5 COLLATE "C") IN lower(message COLLATE "C")) > 0)
 ORDER BY id
 LIMIT $6
