-- Who holds something and has no quota of their own.
SELECT DISTINCT u.user_id FROM placement_user u
 WHERE NOT EXISTS (SELECT 1 FROM user_policy y WHERE y.user_id = u.user_id)
