-- One deployment of a workspace at a time: the row is locked until the transaction ends.
-- $1 name
SELECT w.id, w.name, w.created_at, w.bundle_digest, p.name, w.archived_at IS NOT NULL, w.project_id FROM workspace w JOIN project p ON p.id = w.project_id WHERE w.name = $1 FOR UPDATE OF w
