-- How many own a project: its person, its group, members and groups with that role. Persons who cannot sign in do not count.
-- $1 project
SELECT (SELECT count(*) FROM project p LEFT JOIN user_account u ON u.id = p.owner_user_id
         WHERE p.id = $1 AND (p.owner_group_id IS NOT NULL OR u.id IS NOT NULL AND u.disabled_at IS NULL))
     + (SELECT count(*) FROM project_member m LEFT JOIN user_account u ON u.id = m.user_id
         WHERE m.project_id = $1 AND m.role = 'owner' AND u.disabled_at IS NULL)
