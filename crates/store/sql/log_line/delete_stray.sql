-- Lines of no day's partition (a writer whose clock was far off), before a time.
-- $1 the time
DELETE FROM log_line_default WHERE at < $1
