-- Marks what holders $1 have as being left.
UPDATE placement SET state = 'releasing' WHERE holder = ANY ($1::uuid[]) AND state = 'held'
