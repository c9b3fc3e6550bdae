-- $1 group, $2 root
INSERT INTO group_policy (group_id, allow_root) VALUES ($1, $2)
ON CONFLICT (group_id) DO UPDATE SET allow_root = $2
