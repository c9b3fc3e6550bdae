-- Secrets that one of these keys seals, locked until the transaction ends; those that somebody else rotates are left to them.
-- $1 keys, $2 limit
SELECT s.id, s.project_id, s.workspace_id, s.pipeline, s.name, s.version, s.key_id, s.wrapped_key, s.sealed
  FROM secret s WHERE s.key_id = ANY ($1::text[]) ORDER BY s.id LIMIT $2 FOR UPDATE SKIP LOCKED
