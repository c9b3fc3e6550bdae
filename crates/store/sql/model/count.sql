-- How many models a workspace has, archived ones too, and how many versions the one of this name has.
-- $1 workspace, $2 name
SELECT (SELECT count(*) FROM model WHERE workspace_id = $1) AS models,
       (SELECT count(*) FROM model_version v JOIN model m ON m.id = v.model_id WHERE m.workspace_id = $1 AND m.name = $2)
           AS versions
