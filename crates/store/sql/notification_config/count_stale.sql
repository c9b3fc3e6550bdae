-- $1 key
SELECT count(*) FROM notification_config WHERE key_id IS DISTINCT FROM $1
