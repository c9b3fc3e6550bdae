-- The keys but these ($1) that seal a secret or a configuration of notifications; $2 at most.
SELECT key_id FROM secret WHERE key_id <> ALL ($1::text[])
 UNION
SELECT key_id FROM notification_config WHERE key_id <> ALL ($1::text[])
 ORDER BY key_id LIMIT $2
