-- Notes a part that is durable, behind those that were noted: of two streams into one upload, the later one changes no row.
-- $1 upload, $2 bytes that were there, $3 digest of the part, $4 its size
UPDATE model_upload
   SET received_bytes = received_bytes + $4, parts = parts || $3::text, updated_at = now()
 WHERE id = $1 AND received_bytes = $2
