-- On which nodes volumes of project $1 in pool $2 with names $3 are mounted by lives that have a place or are to have one, but for
-- those of workspace $4 and the lives $5.
SELECT v.name, p.node_id
  FROM volume v
  JOIN runtime r ON r.project_id = v.project_id AND r.state IN ('starting', 'running', 'stopping')
 CROSS JOIN LATERAL jsonb_array_elements(r.spec -> 'mounts') AS m (mount)
  JOIN placement p ON p.holder = r.holder
 WHERE v.project_id = $1 AND v.pool = $2 AND v.name = ANY ($3::text[]) AND v.deleted_at IS NULL
   AND (m.mount ->> 'id')::uuid = v.id AND r.workspace_id <> $4 AND r.holder <> ALL ($5::uuid[])
