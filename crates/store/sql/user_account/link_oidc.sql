-- Ties a person to an identity elsewhere; no row when tied to another already.
-- $1 id, $2 issuer, $3 subject
UPDATE user_account SET oidc_issuer = $2, oidc_subject = $3 WHERE id = $1 AND oidc_issuer IS NULL
