-- A page by name, with what is held and who waits. A person without a role over the cluster gets the default queue and
-- those that plans of her projects open.
-- $1 last name of the page before, $2 limit, $3 archived ones too, $4 user, or NULL for one who sees all
SELECT q.id, q.name, q.pool, q.priority, q.preemptible, q.deserved_milli, q.limit_milli, q.weight, q.version,
       q.archived_at IS NOT NULL,
       coalesce((SELECT sum(p.effective_milli) FROM placement p WHERE p.queue_id = q.id), 0)::bigint,
       (SELECT count(*) FROM runtime r WHERE r.queue_id = q.id AND r.state IN ('running', 'stopping')),
       (SELECT count(*) FROM runtime r WHERE r.queue_id = q.id AND r.state = 'starting')
  FROM queue q
 WHERE q.name > $1 AND ($3::boolean OR q.archived_at IS NULL)
   AND ($4::uuid IS NULL OR q.id = '00000000-0000-0000-0000-000000000000' OR EXISTS (
           SELECT 1 FROM plan_queue b
             JOIN plan l ON l.id = b.plan_id AND l.archived_at IS NULL
             JOIN project_plan g ON g.plan_id = b.plan_id
             JOIN project_access a ON a.project_id = g.project_id AND a.user_id = $4
            WHERE b.queue_id = q.id))
 ORDER BY q.name LIMIT $2
