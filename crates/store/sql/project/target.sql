-- Where a project is, and what a person may do there.
-- $1 name, $2 user, or NULL for one whose role covers the whole cluster
SELECT p.id, NULL::uuid, p.name, p.archived_at IS NOT NULL,
       coalesce((SELECT max(a.rank) FROM project_access a WHERE a.project_id = p.id AND a.user_id = $2::uuid), 0)
  FROM project p
 WHERE p.name = $1::text
