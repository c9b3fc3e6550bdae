-- Where an upload goes, or went: the version that it has become has its id. And what a person may do there.
-- $1 upload, $2 user, or NULL for one whose role covers the whole cluster
SELECT w.project_id, w.id, w.name, w.archived_at IS NOT NULL,
       coalesce((SELECT max(a.rank) FROM workspace_access a WHERE a.workspace_id = w.id AND a.user_id = $2::uuid), 0)
  FROM workspace w
 WHERE w.id = (SELECT u.workspace_id FROM model_upload u WHERE u.id = $1::uuid
               UNION ALL
               SELECT m.workspace_id FROM model_version v JOIN model m ON m.id = v.model_id WHERE v.id = $1::uuid
               LIMIT 1)
