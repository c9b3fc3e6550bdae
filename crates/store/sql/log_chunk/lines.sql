-- The lines of the next chunk, in order.
-- $1 after this id, $2 up to this one, $3 limit
SELECT id, run_id, at, level, message, block, block_type FROM log_line WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3
