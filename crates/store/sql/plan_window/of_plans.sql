-- In the order in which they were written.
-- $1 plans
SELECT plan_id, time_zone, weekdays, start_minute, end_minute, starts_at, ends_at
  FROM plan_window WHERE plan_id = ANY ($1::uuid[]) ORDER BY plan_id, id
