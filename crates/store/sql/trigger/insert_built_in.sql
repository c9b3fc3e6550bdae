-- The manual trigger, which every pipeline has. Nothing happens when it is there.
-- $1 id, $2 pipeline
INSERT INTO trigger (id, pipeline_id, name, kind, active, source) VALUES ($1, $2, 'manual', 'manual', true, 'built-in')
ON CONFLICT (pipeline_id, name) DO NOTHING
