-- A new pipeline at version 1. The caller holds the workspace's lock.
-- $1 id, $2 workspace, $3 name
INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, $3, 1)
