-- Returns when everything that was committed before it, by any session, is durable: the message itself is nothing but
-- a record in the write-ahead log whose commit is waited for, as `synchronous_commit` of this session says.
SELECT pg_logical_emit_message(true, 'orrery', '')
