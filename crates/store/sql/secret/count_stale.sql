-- $1 the key
SELECT count(*) FROM secret WHERE key_id <> $1
