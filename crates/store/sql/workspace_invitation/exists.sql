-- Whether an address was invited to anything.
-- $1 e-mail address in lower case
SELECT EXISTS (SELECT 1 FROM workspace_invitation WHERE email = $1)
