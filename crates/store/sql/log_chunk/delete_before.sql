-- Chunks of which every line is older than a time.
-- $1 the time
DELETE FROM log_chunk WHERE max_at < $1
