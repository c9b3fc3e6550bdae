-- From now on nobody mounts it. $1 volume
UPDATE volume SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL
