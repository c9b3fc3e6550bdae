-- $1 id, $2 model, $3 file name, $4 size, $5 SHA-256, $6 parts, $7 by whom
INSERT INTO model_version (id, model_id, file_name, size_bytes, sha256, parts, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7)
