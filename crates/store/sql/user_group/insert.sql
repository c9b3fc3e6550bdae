-- A group; no row when the name is taken.
-- $1 id, $2 name
INSERT INTO user_group AS g (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING g.id, g.name, g.created_at, 0
