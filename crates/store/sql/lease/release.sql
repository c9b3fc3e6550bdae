-- Frees those of the names $2 that $1 holds.
DELETE FROM lease WHERE owner = $1::uuid AND name = ANY ($2::text[])
