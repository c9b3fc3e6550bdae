-- Pauses what is left of a pipeline that goes out of force, apart from the built-in trigger: should the pipeline come back,
-- somebody decides whether these start again.
-- $1 pipeline
UPDATE trigger
   SET active = false, paused_at = now(), updated_at = now(), version = version + 1
 WHERE pipeline_id = $1 AND source <> 'built-in' AND archived_at IS NULL AND active
