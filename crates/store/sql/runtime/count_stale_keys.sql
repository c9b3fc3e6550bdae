-- $1 as in stale_keys.sql
SELECT count(*) FROM runtime
 WHERE access_key IS NOT NULL AND substring(access_key FROM 1 FOR length($1::bytea)) <> $1
