-- Forgets volumes of project $1 of which nothing is left, once every executor of their pool had a month to hear of it.
DELETE FROM volume v USING volume_state s
 WHERE v.project_id = $1 AND v.deleted_at < now() - interval '30 days' AND s.volume_id = v.id AND s.state = 'gone'
