-- Forgets uploads that nobody has gone on with, and answers which, so that their parts go after them.
-- $1 seconds without a part, $2 limit
DELETE FROM model_upload
 WHERE id IN (SELECT id FROM model_upload WHERE updated_at < now() - make_interval(secs => $1) ORDER BY updated_at
               LIMIT $2::bigint FOR UPDATE SKIP LOCKED)
RETURNING id
