-- A page by address: members, and those who were invited and have not signed in.
-- $1 workspace, $2 last address of the page before, $3 limit
SELECT email, name, role, invited, since FROM (
    SELECT u.email, u.name, m.role, false AS invited, m.created_at AS since
      FROM workspace_member m JOIN user_account u ON u.id = m.user_id WHERE m.workspace_id = $1
    UNION ALL
    SELECT i.email, '', i.role, true, i.created_at FROM workspace_invitation i WHERE i.workspace_id = $1
) AS member
 WHERE email > $2 ORDER BY email LIMIT $3
