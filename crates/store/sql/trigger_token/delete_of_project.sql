-- Drops the token that a project's file gave to a trigger and no longer gives.
-- $1 trigger, $2 ids of the one that stays, none for none
DELETE FROM trigger_token WHERE trigger_id = $1 AND source = 'project' AND id <> ALL ($2::text[])
