-- What was held of GPUs between two instants, in milli-GPU times seconds, by how many, and what they hold now: a page by key of
-- what has ended and of what has not. A life counts with the part of it that lies in between, in each day (UTC) with the part
-- of that day. A person without a role over the cluster gets what she started, and all of projects that she administers.
-- $1 from, $2 until, NULL is now, $3 words of the key, in any order; others are empty in it: project, queue, person, workspace,
-- model, day; $4 project, NULL is all, $5 user, or NULL for one who sees all, $6 last key of the page before, $7 limit
WITH held AS (
    SELECT u.holder, u.held_at, u.freed_at, u.project_id, u.queue_id, u.workspace_id, u.person_id, u.model, u.gpu_milli,
           0 AS now_milli
      FROM gpu_usage u
     WHERE tstzrange(u.held_at, u.freed_at) && tstzrange($1::timestamptz, greatest($1, least($2::timestamptz, now())))
    UNION ALL
    SELECT h.holder, h.held_at, now(), h.project_id, h.queue_id, h.workspace_id, h.person_id, h.model, h.gpu_milli,
           h.gpu_milli
      FROM gpu_held h
), span AS (
    SELECT h.holder, h.project_id, h.queue_id, h.workspace_id, h.person_id, h.model, h.gpu_milli, h.now_milli,
           greatest(h.held_at, $1) AS begins_at, least(h.freed_at, $2) AS ends_at
      FROM held h
     WHERE ($4::uuid IS NULL OR h.project_id = $4)
       AND ($5::uuid IS NULL OR h.person_id = $5 OR EXISTS (
               SELECT 1 FROM project_access a WHERE a.project_id = h.project_id AND a.user_id = $5 AND a.rank >= 3))
), part AS (
    SELECT s.holder, s.project_id, s.queue_id, s.workspace_id, s.person_id, s.model, s.gpu_milli, s.now_milli, d.day,
           greatest(s.begins_at, d.begins_at) AS begins_at, least(s.ends_at, d.ends_at) AS ends_at
      FROM span s
     CROSS JOIN LATERAL (
           SELECT to_char(t, 'YYYY-MM-DD') AS day, t AT TIME ZONE 'UTC' AS begins_at,
                  (t + interval '1 day') AT TIME ZONE 'UTC' AS ends_at
             FROM generate_series(date_trunc('day', s.begins_at AT TIME ZONE 'UTC'), s.ends_at AT TIME ZONE 'UTC',
                                  interval '1 day') AS t
            WHERE 'day' = ANY ($3::text[])
           UNION ALL
           SELECT '', s.begins_at, s.ends_at WHERE 'day' <> ALL ($3)
     ) AS d
     WHERE s.begins_at < s.ends_at
), named AS (
    SELECT ARRAY[
               CASE WHEN 'project' = ANY ($3) THEN coalesce(p.name, a.project_id::text) ELSE '' END,
               CASE WHEN 'queue' = ANY ($3) THEN coalesce(q.name, a.queue_id::text) ELSE '' END,
               CASE WHEN 'person' = ANY ($3) THEN coalesce(u.email, a.person_id::text, '') ELSE '' END,
               CASE WHEN 'workspace' = ANY ($3) THEN coalesce(w.name, a.workspace_id::text, '') ELSE '' END,
               CASE WHEN 'model' = ANY ($3) THEN a.model ELSE '' END,
               a.day
           ] AS key, a.holder, a.gpu_milli, a.now_milli, a.begins_at, a.ends_at
      FROM part a
      LEFT JOIN project p ON p.id = a.project_id
      LEFT JOIN queue q ON q.id = a.queue_id
      LEFT JOIN user_account u ON u.id = a.person_id
      LEFT JOIN workspace w ON w.id = a.workspace_id
     WHERE a.begins_at < a.ends_at
)
SELECT key, floor(sum(gpu_milli * extract(epoch FROM ends_at - begins_at)))::bigint, count(DISTINCT holder),
       coalesce(sum(now_milli) FILTER (WHERE ends_at = now()), 0)::bigint
  FROM named
 WHERE key > $6::text[]
 GROUP BY key ORDER BY key LIMIT $7::bigint
