-- Two requests with one key go one after the other: the lock ends with the transaction.
-- $1 method and key
SELECT pg_advisory_xact_lock(hashtextextended($1, 0))
