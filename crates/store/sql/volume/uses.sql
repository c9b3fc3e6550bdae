-- Which lives that have not ended mount volumes of a project, since when, and whether they may write.
-- $1 project, $2 volumes, $3 limit
SELECT (m.mount ->> 'id')::uuid, w.name, coalesce(r.running_at, r.submitted_at),
       coalesce((m.mount ->> 'read_only')::boolean, false)
  FROM runtime r
  JOIN workspace w ON w.id = r.workspace_id
 CROSS JOIN LATERAL jsonb_array_elements(r.spec -> 'mounts') AS m (mount)
 WHERE r.project_id = $1 AND r.state IN ('starting', 'running', 'stopping')
   AND (m.mount ->> 'id')::uuid = ANY ($2::uuid[])
 ORDER BY w.name LIMIT $3
