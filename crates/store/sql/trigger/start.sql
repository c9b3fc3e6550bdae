-- Starts a trigger that is paused, or that a failure has halted in this version. One that fires already stays as it is.
-- As with an edit, firings under way are waited for.
-- $1 id
WITH halted AS (SELECT (state ->> 'halted')::bigint AS version FROM trigger_state WHERE trigger_id = $1),
     idle AS (
    SELECT t.id, NOT t.active OR t.version IS NOT DISTINCT FROM (SELECT version FROM halted) AS is_idle
      FROM trigger t WHERE t.id = $1
)
UPDATE trigger t
   SET active = true,
       version = CASE WHEN is_idle THEN version + 1 ELSE version END,
       updated_at = CASE WHEN is_idle THEN now() ELSE updated_at END,
       enabled_at = CASE WHEN is_idle THEN now() ELSE enabled_at END
  FROM idle
 WHERE t.id = idle.id AND archived_at IS NULL AND source <> 'built-in'
RETURNING version
