-- Ends the session of a person that has this id; see list.sql.
-- $1 user, $2 id
DELETE FROM browser_session WHERE user_id = $1 AND encode(substring(secret_hash FROM 1 FOR 8), 'hex') = $2
