-- What was applied, in order.
SELECT version, coalesce(name, '') AS name, coalesce(checksum, '') AS checksum FROM refinery_schema_history ORDER BY version
