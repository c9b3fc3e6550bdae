-- Ends an upload whose bytes have all arrived; it can be ended once.
-- $1 upload
DELETE FROM model_upload WHERE id = $1 AND received_bytes = size_bytes
RETURNING id, workspace_id, name, file_name, size_bytes, sha256, received_bytes, parts
