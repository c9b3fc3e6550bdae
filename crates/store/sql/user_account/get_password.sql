-- What a sign-in is compared with. No row for who is disabled or has no password.
-- $1 e-mail address in lower case
SELECT id, password_hash, password_state FROM user_account
 WHERE email = $1 AND disabled_at IS NULL AND password_hash IS NOT NULL
