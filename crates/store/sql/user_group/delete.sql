-- Deletes a group with its memberships; nothing while it owns a project.
-- $1 id
DELETE FROM user_group g WHERE g.id = $1 AND NOT EXISTS (SELECT 1 FROM project p WHERE p.owner_group_id = g.id)
