-- Begins an upload.
-- $1 id, $2 workspace, $3 name, $4 file name, $5 size, $6 SHA-256, $7 by whom
INSERT INTO model_upload (id, workspace_id, name, file_name, size_bytes, sha256, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7)
