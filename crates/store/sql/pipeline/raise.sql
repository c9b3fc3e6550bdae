-- Puts the next version into force, and an archived pipeline back. Zero rows: somebody else was first.
-- $1 pipeline, $2 version that is in force
UPDATE pipeline SET version = version + 1, updated_at = now(), archived_at = NULL WHERE id = $1 AND version = $2
