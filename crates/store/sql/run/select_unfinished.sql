-- What the owner of these shards ($1) has to carry on. From the list to its runs, whatever was planned while there were few.
SELECT r.id, r.workspace_id, w.name AS workspace, r.pipeline_id, r.pipeline_version, r.trigger_id, t.name AS trigger, r.shard,
       r.status, r.variables, r.execution_date, r.started_at, r.completed_at, r.reason, r.cancel_reason, r.timeout_s, r.timeout_cancels,
       r.allow_blocks_to_fail, r.parent_run_id, r.backfill_id, r.event_variables, r.sla_at, r.sla_missed_at, r.retry_key,
       r.repeated_by
FROM unfinished_run u
CROSS JOIN LATERAL (SELECT * FROM run WHERE id = u.run_id OFFSET 0) AS r
JOIN workspace w ON w.id = r.workspace_id
JOIN trigger t ON t.id = r.trigger_id
WHERE u.shard = ANY ($1::smallint[])
ORDER BY r.id
