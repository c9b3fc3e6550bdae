-- $1 group, $2 user
DELETE FROM user_group_member WHERE group_id = $1 AND user_id = $2
