-- Where a backfill is, and what a person may do there.
-- $1 backfill, $2 user, or NULL for one whose role covers the whole cluster
SELECT w.project_id, w.id, w.name, w.archived_at IS NOT NULL,
       coalesce((SELECT max(a.rank) FROM workspace_access a WHERE a.workspace_id = w.id AND a.user_id = $2::uuid), 0)
  FROM backfill b JOIN workspace w ON w.id = b.workspace_id
 WHERE b.id = $1::uuid
