-- Drops the tokens of those of these triggers ($1) that nobody calls any more: archived ones, and those of another kind. After
-- whatever made them so, in its transaction: it has their rows, and with these whoever makes a token (insert.sql) waits.
DELETE FROM trigger_token k
 USING trigger t
 WHERE t.id = ANY ($1::uuid[]) AND (t.archived_at IS NOT NULL OR t.kind <> 'api') AND k.trigger_id = t.id
