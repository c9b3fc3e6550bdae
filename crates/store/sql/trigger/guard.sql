-- Of these triggers ($1) those whose version ($2) is in force; they cannot be edited or paused before the transaction
-- ends. One that is being edited right now is left out, and is decided about after the edit.
SELECT t.id FROM trigger t
JOIN unnest($1::uuid[], $2::bigint[]) AS g (id, version) ON t.id = g.id AND t.version = g.version
FOR SHARE OF t SKIP LOCKED
