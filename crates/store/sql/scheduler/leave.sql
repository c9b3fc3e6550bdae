-- Hands everything back at once: successors need not wait for the lease to pass. Rows of schedulers that have been gone
-- for an hour are removed on the way.
DELETE FROM scheduler WHERE id = $1::uuid OR lease_until < clock_timestamp() - interval '1 hour'
