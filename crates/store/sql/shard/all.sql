-- Who is named as the owner of which shard, living or not.
SELECT id, epoch, owner FROM shard ORDER BY id
