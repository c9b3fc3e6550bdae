-- How many secrets a project has, in all its scopes.
-- $1 project
SELECT count(*) FROM secret WHERE project_id = $1
