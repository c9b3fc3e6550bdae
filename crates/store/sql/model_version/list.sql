-- A page of a model's versions, newest first, before a time and an id.
-- $1 workspace, $2 name, $3 time, $4 id, $5 limit
SELECT m.name, v.id, v.file_name, v.size_bytes, v.sha256, v.created_at, coalesce(u.email, '') AS created_by, v.parts
  FROM model m JOIN model_version v ON v.model_id = m.id LEFT JOIN user_account u ON u.id = v.created_by
 WHERE m.workspace_id = $1 AND m.name = $2 AND (v.created_at, v.id) < ($3::timestamptz, $4::uuid)
 ORDER BY v.created_at DESC, v.id DESC LIMIT $5
