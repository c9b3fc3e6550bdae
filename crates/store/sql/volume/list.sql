-- A page of a project's volumes by name and id: with those that are being deleted, without those that are gone.
-- $1 project, $2 name and $3 id of the last one of the page before, $4 limit
SELECT v.id, v.name, v.pool, v.size_bytes, v.created_at, coalesce(u.email, ''), v.deleted_at IS NOT NULL,
       s.state, coalesce(s.size_bytes, 0), coalesce(s.message, ''), v.storage_class
  FROM volume_that_counts c
  JOIN volume v ON v.id = c.id
  LEFT JOIN volume_state s ON s.volume_id = v.id
  LEFT JOIN user_account u ON u.id = v.created_by
 WHERE v.project_id = $1 AND (v.name, v.id) > ($2, $3)
 ORDER BY v.name, v.id LIMIT $4
