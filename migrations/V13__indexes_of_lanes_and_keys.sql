-- concurrent
-- What waits, by where it goes as far as the columns tell: a lane. A dead receiver's messages are one lane of many.
DROP INDEX CONCURRENTLY IF EXISTS notification_waiting;
CREATE INDEX CONCURRENTLY notification_waiting ON notification (workspace_id, pipeline_id, source, channel, not_before) WHERE status = 'pending';
DROP INDEX CONCURRENTLY IF EXISTS notification_waiting_by_age;
CREATE INDEX CONCURRENTLY notification_waiting_by_age ON notification (created_at) WHERE status = 'pending';

-- Answers to keys are forgotten oldest first.
DROP INDEX CONCURRENTLY IF EXISTS idempotency_by_age;
CREATE INDEX CONCURRENTLY idempotency_by_age ON idempotency (created_at);
