-- One change of a group's policy at a time. No row when there is no such group.
-- $1 id
SELECT id FROM user_group WHERE id = $1 FOR NO KEY UPDATE
