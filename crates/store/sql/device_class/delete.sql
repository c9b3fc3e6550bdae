-- $1 name
DELETE FROM device_class WHERE name = $1
