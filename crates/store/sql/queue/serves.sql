-- Whether a queue that is in use is served from pool $1.
SELECT EXISTS (SELECT 1 FROM queue WHERE pool = $1 AND archived_at IS NULL)
