-- Drops what tokens an archived trigger still has, before its name is taken over: whoever had one may not start the new one.
-- $1 pipeline, $2 name
DELETE FROM trigger_token k
 USING trigger t
 WHERE t.pipeline_id = $1 AND t.name = $2 AND t.archived_at IS NOT NULL AND k.trigger_id = t.id
