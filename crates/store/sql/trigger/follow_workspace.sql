-- What a workspace's archiving ($2 true) means to its active triggers is a pause, and its return a start: a new version, which
-- their owners learn of as of an edit. As with an edit, firings under way are waited for, and once this has committed nothing
-- fires any more. They stay active, so that those fire again that did. One that a failure has halted stays halted, since
-- the version that is halted stays in force; it does not fire either.
-- In the transaction of workspace/set_archived.sql.
-- $1 workspace, $2 whether archived
UPDATE trigger t
   SET version = t.version + 1, updated_at = now(),
       paused_at = CASE WHEN $2::boolean THEN now() ELSE t.paused_at END,
       enabled_at = CASE WHEN $2::boolean THEN t.enabled_at ELSE now() END
  FROM pipeline p
 WHERE p.workspace_id = $1 AND t.pipeline_id = p.id AND t.active AND t.archived_at IS NULL AND t.source <> 'built-in'
   AND NOT EXISTS (
       SELECT FROM trigger_state s WHERE s.trigger_id = t.id AND (s.state ->> 'halted')::bigint = t.version
   )
