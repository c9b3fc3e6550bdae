-- $1 plan
DELETE FROM plan_window WHERE plan_id = $1
