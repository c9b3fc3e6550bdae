-- What each kind of device is worth beside others.
SELECT name, models, worth FROM device_class ORDER BY name
