-- Forgets a person's own quota: everybody's holds again.
-- $1 user, or the nil id for everybody's
DELETE FROM user_policy WHERE user_id = $1
