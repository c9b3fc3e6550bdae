-- How many uploads of a workspace are open.
-- $1 workspace
SELECT count(*) FROM model_upload WHERE workspace_id = $1
