-- The last id that was given to a line; it may not be committed.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id FROM log_line_id_seq
