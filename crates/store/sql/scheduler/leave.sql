-- Hands everything back at once: successors need not wait for the lease to pass.
DELETE FROM scheduler WHERE id = $1::uuid
