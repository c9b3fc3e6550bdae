-- One volume as `list` has it. $1 volume
SELECT v.id, v.name, v.pool, v.size_bytes, v.created_at, coalesce(u.email, ''), v.deleted_at IS NOT NULL,
       s.state, coalesce(s.size_bytes, 0), coalesce(s.message, ''), v.storage_class
  FROM volume v
  LEFT JOIN volume_state s ON s.volume_id = v.id
  LEFT JOIN user_account u ON u.id = v.created_by
 WHERE v.id = $1
