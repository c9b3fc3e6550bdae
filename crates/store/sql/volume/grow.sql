-- $1 volume, $2 size: never below the one that it has.
UPDATE volume SET size_bytes = $2 WHERE id = $1 AND deleted_at IS NULL AND size_bytes <= $2
