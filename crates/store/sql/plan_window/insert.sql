-- $1 id, $2 plan, $3 zone; weekly: $4 days, $5 start minute, $6 end minute; once: $7 start, $8 end; the others are NULL
INSERT INTO plan_window (id, plan_id, time_zone, weekdays, start_minute, end_minute, starts_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
