-- Remembers an answer, in the transaction of the act that it answers.
-- $1 method, $2 key, $3 request hash, $4 response
INSERT INTO idempotency (method, key, request_hash, response) VALUES ($1, $2, $3, $4)
