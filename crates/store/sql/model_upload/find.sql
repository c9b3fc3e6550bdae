-- The upload of this content that was begun and not finished; the furthest one, should there be several.
-- $1 workspace, $2 name, $3 file name, $4 size, $5 SHA-256
SELECT id, workspace_id, name, file_name, size_bytes, sha256, received_bytes, parts FROM model_upload
 WHERE workspace_id = $1 AND name = $2 AND file_name = $3 AND size_bytes = $4 AND sha256 = $5
 ORDER BY received_bytes DESC, id LIMIT 1
