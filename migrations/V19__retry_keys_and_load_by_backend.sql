-- expand
-- Which retry of a run came last, so that one which is asked for twice is done once; and what schedulers have to do, by
-- the backend that can do it.

-- Runtime state: the key of the run's latest retry within itself. NULL where there was none, or an earlier version did it.
ALTER TABLE run ADD COLUMN retry_key text;

-- Of ready_units and running_units, those that only executors on Kubernetes can run. 0 is what earlier versions say.
ALTER TABLE scheduler
    ADD COLUMN ready_units_kubernetes integer NOT NULL DEFAULT 0 CHECK (ready_units_kubernetes >= 0),
    ADD COLUMN running_units_kubernetes integer NOT NULL DEFAULT 0 CHECK (running_units_kubernetes >= 0);
