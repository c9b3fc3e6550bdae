-- Takes those of $2 that have no living owner, or any of them when $3, for $1, and raises their epochs: whatever the
-- former owner still has in flight writes nothing. A shard that a commit holds at this moment is left out.
WITH free AS (
    SELECT s.id FROM shard s
    WHERE s.id = ANY ($2::smallint[])
      AND s.owner IS DISTINCT FROM $1::uuid
      AND ($3::boolean OR NOT EXISTS (SELECT FROM scheduler m WHERE m.id = s.owner AND m.lease_until > clock_timestamp()))
    ORDER BY s.id
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE shard s SET epoch = s.epoch + 1, owner = $1::uuid FROM free WHERE s.id = free.id
RETURNING s.id, s.epoch
