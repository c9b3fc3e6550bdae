-- Puts a bundle into force. The time moves only when the bundle does.
-- $1 workspace, $2 digest
UPDATE workspace
   SET deployed_at = CASE WHEN bundle_digest IS NOT DISTINCT FROM $2 THEN deployed_at ELSE now() END,
       bundle_digest = $2
 WHERE id = $1
RETURNING deployed_at
