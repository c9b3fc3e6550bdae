-- Every shard whose owner lives, with who that is and where it is reached.
SELECT s.id, s.owner, m.address
FROM shard s
JOIN scheduler m ON m.id = s.owner AND m.lease_until > clock_timestamp()
ORDER BY s.id
