-- Whether a group gives those who are in it more in some project than a person has there.
-- $1 group, $2 user, $3 rank of that person's role over the cluster, 0 for none
SELECT EXISTS (
    SELECT FROM project_member m
     WHERE m.group_id = $1
       AND array_position(ARRAY['viewer', 'editor', 'admin', 'owner'], m.role) > greatest($3::integer, (
           SELECT max(a.rank) FROM project_access a WHERE a.project_id = m.project_id AND a.user_id = $2)))
