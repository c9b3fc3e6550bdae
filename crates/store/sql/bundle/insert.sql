-- Records a bundle; knowing it already is no error, since its digest says all.
-- $1 digest, $2 project name, $3 files, $4 bytes
INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ($1, $2, $3, $4)
ON CONFLICT (digest) DO NOTHING
