-- Takes every shard without a living owner, and raises its epoch: whatever the former owner still has in flight writes nothing.
WITH free AS (
    SELECT s.id FROM shard s
    WHERE s.owner IS DISTINCT FROM $1::uuid
      AND NOT EXISTS (SELECT FROM scheduler m WHERE m.id = s.owner AND m.lease_until > clock_timestamp())
    ORDER BY s.id
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE shard s SET epoch = s.epoch + 1, owner = $1::uuid FROM free WHERE s.id = free.id
RETURNING s.id, s.epoch
