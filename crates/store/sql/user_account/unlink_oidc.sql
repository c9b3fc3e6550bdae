-- Unties a person from who they are elsewhere.
-- $1 id
UPDATE user_account SET oidc_issuer = NULL, oidc_subject = NULL WHERE id = $1
