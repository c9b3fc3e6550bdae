-- $1 id, $2 whether disabled
UPDATE user_account SET disabled_at = CASE WHEN $2::boolean THEN coalesce(disabled_at, now()) END WHERE id = $1
