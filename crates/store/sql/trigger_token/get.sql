-- The id and the hash of a token of a trigger that holds. Only one that is called has any.
-- $1 trigger, $2 ids that the token may have
SELECT k.id, k.hash
  FROM trigger_token k JOIN trigger t ON t.id = k.trigger_id AND t.kind = 'api' AND t.archived_at IS NULL
 WHERE k.trigger_id = $1 AND k.id = ANY ($2::text[]) AND (k.expires_at IS NULL OR k.expires_at > now())
