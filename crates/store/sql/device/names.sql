-- $1 devices
SELECT id, name FROM device WHERE id = ANY ($1::uuid[])
