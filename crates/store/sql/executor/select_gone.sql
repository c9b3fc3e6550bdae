-- Of these executors those that have said goodbye.
-- $1 ids
SELECT id FROM executor WHERE id = ANY ($1::uuid[]) AND state = 'gone'
