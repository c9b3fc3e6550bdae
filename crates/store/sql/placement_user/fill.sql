-- Says for whose quota the placements of pool $1 count that were written without: of whoever started the runtime, or of whose
-- personal project it is.
INSERT INTO placement_user (holder, user_id)
SELECT p.holder, coalesce(r.requested_by, j.owner_user_id)
  FROM placement p
  LEFT JOIN runtime r ON r.holder = p.holder
  LEFT JOIN project j ON j.id = p.project_id
 WHERE p.pool = $1::text AND coalesce(r.requested_by, j.owner_user_id) IS NOT NULL
ON CONFLICT (holder) DO NOTHING
