-- A project; no row when the name is taken, or the person has a personal one already.
-- $1 id, $2 name, $3 whose personal project it is or NULL, $4 owning group or NULL
INSERT INTO project (id, name, owner_user_id, owner_group_id) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING id
