-- Where requests for a workspace's application go, by the workspace's name or its id: exactly one of the two is given.
-- $1 name, $2 id
SELECT w.id, w.name, w.archived_at IS NOT NULL, coalesce(r.state, 'stopped'), coalesce(r.step, ''),
       coalesce(r.reason, ''), coalesce(r.message, ''), coalesce(r.hint, ''), coalesce(r.number, 0), coalesce(r.pool, ''),
       coalesce(r.endpoint, ''), r.access_key, r.spec -> 'app'
  FROM workspace w LEFT JOIN runtime r ON r.workspace_id = w.id
 WHERE w.name = $1::text OR w.id = $2::uuid
