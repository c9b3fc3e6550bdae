-- Drops the token that a project's file gave to a trigger and no longer gives.
-- $1 trigger, $2 public id of the one that stays, empty for none
DELETE FROM trigger_token WHERE trigger_id = $1 AND source = 'project' AND id <> $2
