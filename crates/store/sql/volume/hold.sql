-- Which of volumes $1 are there. None of them is deleted before the transaction ends: whoever is deleting one is waited for,
-- and whoever comes to, waits, and then sees the lives that mount it.
SELECT id FROM volume WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR SHARE
