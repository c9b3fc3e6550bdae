-- The queues of pool $1, archived ones too: somebody may still be in one.
SELECT id, name, priority, preemptible, deserved_milli, limit_milli, weight FROM queue WHERE pool = $1::text ORDER BY id
