-- Another seal of the same configuration, whose row the caller has locked.
-- $1 workspace, $2 pipeline or the nil uuid, $3 configuration without secrets, $4 key, $5 wrapped key, $6 sealed configuration
UPDATE notification_config SET config = $3, key_id = $4, wrapped_key = $5, sealed = $6
 WHERE workspace_id = $1 AND pipeline_id = $2
