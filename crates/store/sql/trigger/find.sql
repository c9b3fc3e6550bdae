-- The trigger of this name, archived or not.
-- $1 pipeline, $2 name
SELECT id FROM trigger WHERE pipeline_id = $1 AND name = $2
