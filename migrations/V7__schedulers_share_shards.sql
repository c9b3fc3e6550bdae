-- expand
-- Schedulers find each other: where others reach one.
ALTER TABLE scheduler ADD COLUMN address text NOT NULL DEFAULT '';

-- How busy each is, told with every renewal: what autoscalers read.
ALTER TABLE scheduler
    ADD COLUMN ready_units   integer NOT NULL DEFAULT 0 CHECK (ready_units >= 0),
    ADD COLUMN running_units integer NOT NULL DEFAULT 0 CHECK (running_units >= 0),
    ADD COLUMN busy_permille integer NOT NULL DEFAULT 0 CHECK (busy_permille BETWEEN 0 AND 1000);

-- Who bothers; never whose act counts. Gone after a crash of the server, which is no loss: unlogged. Leases name anything
-- and belong to owners, each of which is prolonged by one row.
CREATE UNLOGGED TABLE lease_owner (
    id          uuid PRIMARY KEY,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE lease (
    name  text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 200),
    owner uuid NOT NULL
) WITH (fillfactor = 50);
