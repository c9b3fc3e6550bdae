-- expand
-- Schedulers find each other: where the others and their own executors' relays reach one.
ALTER TABLE scheduler ADD COLUMN address text NOT NULL DEFAULT '';
