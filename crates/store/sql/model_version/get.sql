-- $1 version
SELECT m.name, v.id, v.file_name, v.size_bytes, v.sha256, v.created_at, coalesce(u.email, '') AS created_by, v.parts
  FROM model_version v JOIN model m ON m.id = v.model_id LEFT JOIN user_account u ON u.id = v.created_by
 WHERE v.id = $1
