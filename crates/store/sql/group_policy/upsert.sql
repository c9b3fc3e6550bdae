-- Answers what was set before; NULL for nothing.
-- $1 group, $2 root
WITH old AS (SELECT allow_root FROM group_policy WHERE group_id = $1)
INSERT INTO group_policy (group_id, allow_root) VALUES ($1, $2)
ON CONFLICT (group_id) DO UPDATE SET allow_root = $2
RETURNING (SELECT allow_root FROM old)
