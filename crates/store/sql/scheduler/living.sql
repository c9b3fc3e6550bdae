-- Schedulers whose lease has not passed.
SELECT id, address FROM scheduler WHERE lease_until > clock_timestamp() ORDER BY id
