-- Makes the queues of a plan these. Answers how many there are: fewer than were named means that some are not in use.
-- $1 plan, $2 names of queues
WITH named AS (SELECT q.id FROM queue q WHERE q.name = ANY ($2::text[]) AND q.archived_at IS NULL),
     gone AS (DELETE FROM plan_queue b WHERE b.plan_id = $1 AND b.queue_id NOT IN (SELECT id FROM named)),
     come AS (INSERT INTO plan_queue (plan_id, queue_id) SELECT $1, id FROM named ON CONFLICT DO NOTHING)
SELECT count(*) FROM named
