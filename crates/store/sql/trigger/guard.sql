-- Of these triggers ($1) those whose version ($2) is in force, and whose times ($3: the latest that a clock decided, or
-- null) have come by the clock of this transaction; they cannot be edited or paused before it ends. One that is being
-- edited right now is left out, and is decided about after the edit. One whose time has not come was decided by a clock
-- that runs too fast, and is decided about again.
SELECT t.id FROM trigger t
JOIN unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS g (id, version, latest) ON t.id = g.id AND t.version = g.version
WHERE g.latest IS NULL OR g.latest <= transaction_timestamp()
FOR SHARE OF t SKIP LOCKED
