-- The error of workspace $1's last life, which has number $5 where that is given, is put away, for $2: one row, unless there is
-- none. Guard: its pool's shard $3 is owned in epoch $4.
WITH own AS (
    SELECT s.id FROM shard s WHERE s.id = $3::smallint AND s.epoch = $4::bigint FOR SHARE
), reset AS (
    UPDATE runtime r SET state = 'stopped', reason = 'ERROR_RESET', message = '', hint = ''
    FROM own WHERE r.workspace_id = $1::uuid AND r.state = 'error' AND ($5::bigint IS NULL OR r.number = $5)
    RETURNING r.workspace_id, r.number
)
INSERT INTO runtime_event (workspace_id, number, state, reason, actor)
SELECT workspace_id, number, 'stopped', 'ERROR_RESET', $2::uuid FROM reset
