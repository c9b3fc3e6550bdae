-- $1 method, $2 key
SELECT request_hash, response FROM idempotency WHERE method = $1 AND key = $2
