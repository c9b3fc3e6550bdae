-- A new token of a trigger that is called; the row's lock makes this and whatever archives it, or makes something else of it, wait
-- for each other. Nothing happens when the trigger has it already, or where this id is another trigger's.
-- $1 id, $2 trigger, $3 hash, $4 source, $5 all ids that the token may have
INSERT INTO trigger_token (id, trigger_id, hash, source)
SELECT $1::text, t.id, $3::bytea, $4::text
  FROM trigger t
 WHERE t.id = $2::uuid AND t.kind = 'api' AND t.archived_at IS NULL
   AND NOT EXISTS (SELECT FROM trigger_token k WHERE k.trigger_id = t.id AND k.id = ANY ($5::text[]))
   FOR SHARE OF t
ON CONFLICT (id) DO NOTHING
