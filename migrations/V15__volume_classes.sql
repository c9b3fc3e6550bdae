-- expand
-- The storage class that a volume was asked for with, and one place that says what counts for a project's quota of storage.

-- Empty is the default of whoever makes it. It is chosen once: nothing changes it.
ALTER TABLE volume ADD COLUMN storage_class text NOT NULL DEFAULT '';
ALTER TABLE volume ADD CONSTRAINT volume_storage_class
    CHECK (storage_class ~ '^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$') NOT VALID;

-- Volumes of which something may be left: all but those of which an executor has said that they are gone.
CREATE VIEW volume_that_counts AS
SELECT v.id, v.project_id, v.size_bytes
  FROM volume v LEFT JOIN volume_state s ON s.volume_id = v.id
 WHERE v.deleted_at IS NULL OR s.state IS DISTINCT FROM 'gone';
