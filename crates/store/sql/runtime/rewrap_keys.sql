-- The same keys of applications, sealed anew. What began a new life meanwhile, or was sealed by somebody else, stays as it is:
-- answers how many were written, so that two who rotate at once count each key once. Workspaces come in the order of ids.
-- $1 workspaces, $2 numbers, $3 the keys as they were, $4 as they are to be
UPDATE runtime r SET access_key = n.after
  FROM UNNEST($1::uuid[], $2::bigint[], $3::bytea[], $4::bytea[]) AS n (workspace_id, number, before, after)
 WHERE r.workspace_id = n.workspace_id AND r.number = n.number AND r.access_key = n.before
