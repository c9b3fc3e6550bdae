-- Of the names $2, those that $1 holds.
SELECT name FROM lease WHERE owner = $1::uuid AND name = ANY ($2::text[])
