-- Notes a migration in the transaction that applies it; one that runs outside a transaction right after it.
-- $1 number, $2 name, $3 checksum
INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
VALUES ($1, $2, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), $3)
