-- One row when the person is not disabled and, where $2 is given, still has that password. Neither changes until the transaction
-- ends: whoever changes it comes after what is added here, and finds it.
-- $1 id, $2 hash of the password that was compared, or NULL
SELECT id FROM user_account WHERE id = $1 AND disabled_at IS NULL AND ($2::text IS NULL OR password_hash = $2) FOR SHARE
