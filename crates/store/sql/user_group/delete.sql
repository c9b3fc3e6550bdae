-- Deletes a group with its memberships; nothing while it owns a project, or is the last owner of one that is in use.
-- $1 id
DELETE FROM user_group g
 WHERE g.id = $1
   AND NOT EXISTS (SELECT 1 FROM project p WHERE p.owner_group_id = g.id)
   AND NOT EXISTS (
       SELECT 1
         FROM project_member m
         JOIN project p ON p.id = m.project_id AND p.archived_at IS NULL AND p.owner_group_id IS NULL
        WHERE m.group_id = g.id AND m.role = 'owner'
          AND NOT EXISTS (SELECT 1 FROM user_account u WHERE u.id = p.owner_user_id AND u.disabled_at IS NULL)
          AND NOT EXISTS (
              SELECT 1
                FROM project_member o
                LEFT JOIN user_account u ON u.id = o.user_id
               WHERE o.project_id = p.id AND o.id <> m.id AND o.role = 'owner' AND u.disabled_at IS NULL))
