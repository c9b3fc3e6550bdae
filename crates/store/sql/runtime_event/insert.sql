-- Adds lines to timelines, in the order of the array.
-- $1 JSON array of rows
INSERT INTO runtime_event (workspace_id, number, state, step, reason, message, actor)
SELECT e.workspace_id, e.number, e.state, e.step, e.reason, e.message, e.actor
FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (workspace_id uuid, number bigint, state text, step text, reason text,
    message text, actor uuid)) WITH ORDINALITY AS e (workspace_id, number, state, step, reason, message, actor, place)
ORDER BY e.place
