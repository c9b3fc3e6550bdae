-- Starts a trigger: one that is paused, or that a failure has halted. The version rises either way, since that is what
-- ends a halt. As with an edit, firings under way are waited for.
-- $1 id
UPDATE trigger
   SET active = true, version = version + 1, updated_at = now(), enabled_at = now()
 WHERE id = $1 AND archived_at IS NULL AND source <> 'built-in'
RETURNING version
