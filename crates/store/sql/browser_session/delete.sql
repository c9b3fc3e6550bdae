-- $1 hash of the secret
DELETE FROM browser_session WHERE secret_hash = $1
