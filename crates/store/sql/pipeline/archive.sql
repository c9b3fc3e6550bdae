-- $1 pipeline
UPDATE pipeline SET archived_at = now(), updated_at = now() WHERE id = $1 AND archived_at IS NULL
