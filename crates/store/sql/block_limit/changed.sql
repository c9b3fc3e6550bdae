-- Workspaces whose limits changed in the last $1 seconds: more than the time between two looks, because a transaction
-- becomes visible later than the time that it wrote.
SELECT DISTINCT workspace_id FROM block_limit WHERE changed_at > clock_timestamp() - make_interval(secs => $1::float8)
