-- Pauses a trigger; one that is paused stays as it is. Once this has committed nothing fires any more.
-- $1 id
UPDATE trigger
   SET version = CASE WHEN active THEN version + 1 ELSE version END,
       updated_at = CASE WHEN active THEN now() ELSE updated_at END,
       paused_at = CASE WHEN active THEN now() ELSE paused_at END,
       active = false
 WHERE id = $1 AND archived_at IS NULL AND source <> 'built-in'
RETURNING version
