-- $1 name, $2 sharing, $3 step, $4 enforcement, $5 models, $6 class of claims, $7 worth
INSERT INTO device_class (name, sharing, step_milli, enforcement, models, claim_class, worth)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO UPDATE
   SET sharing = $2, step_milli = $3, enforcement = $4, models = $5, claim_class = $6, worth = $7,
       version = device_class.version + 1
RETURNING version
