-- Up to which id lines are in chunks; 0 before the first.
SELECT coalesce((SELECT last_id FROM log_chunk ORDER BY after_id DESC LIMIT 1), 0) AS id
