-- Which group or person owns projects $1; those that nobody owns are left out.
SELECT id, owner_group_id, owner_user_id FROM project
 WHERE id = ANY ($1::uuid[]) AND (owner_group_id IS NOT NULL OR owner_user_id IS NOT NULL)
