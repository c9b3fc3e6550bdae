-- Whether it is this session's turn to migrate, $1 being what all ask for. Given back by the end of the session.
SELECT pg_try_advisory_lock($1) AS locked
