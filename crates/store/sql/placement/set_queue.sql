-- Counts what holder $1 has for queue $2.
UPDATE placement SET queue_id = $2::uuid WHERE holder = $1::uuid
