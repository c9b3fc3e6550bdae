-- A page by name of a workspace's models that are in use, each with its latest version.
-- $1 workspace, $2 last name of the page before, $3 limit
SELECT m.id, m.name, m.created_at, (SELECT count(*) FROM model_version v WHERE v.model_id = m.id) AS versions,
       l.id, l.file_name, l.size_bytes, l.sha256, l.created_at, l.created_by, l.parts
  FROM model m
 CROSS JOIN LATERAL (
       SELECT v.id, v.file_name, v.size_bytes, v.sha256, v.created_at, coalesce(u.email, '') AS created_by, v.parts
         FROM model_version v LEFT JOIN user_account u ON u.id = v.created_by
        WHERE v.model_id = m.id ORDER BY v.created_at DESC, v.id DESC LIMIT 1) l
 WHERE m.workspace_id = $1 AND m.archived_at IS NULL AND m.name > $2
 ORDER BY m.name LIMIT $3
