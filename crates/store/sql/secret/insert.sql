-- A new secret.
-- $1 id, $2 project, $3 workspace or NULL, $4 pipeline or empty, $5 name, $6 version, $7 id of the key, $8 wrapped key,
-- $9 sealed value, $10 by whom
INSERT INTO secret (id, project_id, workspace_id, pipeline, name, version, key_id, wrapped_key, sealed, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
