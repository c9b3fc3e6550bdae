-- Uses a key up that answers nothing; no row where somebody had before.
-- $1 method, $2 key
INSERT INTO idempotency (method, key, request_hash, response) VALUES ($1, $2, '', '') ON CONFLICT DO NOTHING
