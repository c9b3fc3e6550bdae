-- What this scheduler owns now.
SELECT id, epoch FROM shard WHERE owner = $1::uuid
