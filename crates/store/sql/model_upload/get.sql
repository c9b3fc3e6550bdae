-- $1 upload
SELECT id, workspace_id, name, file_name, size_bytes, sha256, received_bytes, parts FROM model_upload WHERE id = $1
