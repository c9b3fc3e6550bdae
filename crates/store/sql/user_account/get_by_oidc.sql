-- $1 issuer, $2 subject
SELECT id, email, name, role, created_at, disabled_at IS NOT NULL, password_state FROM user_account WHERE oidc_issuer = $1 AND oidc_subject = $2
