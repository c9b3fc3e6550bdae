-- $1 group, $2 user
SELECT EXISTS (SELECT 1 FROM user_group_member WHERE group_id = $1 AND user_id = $2)
