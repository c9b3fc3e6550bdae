-- expand
-- Runtimes of workspaces and the devices that they run on. The first half is what people set (written by web-servers);
-- the second is what is so (written by schedulers, each row under the epoch of its pool's shard).

-- === what people set ===

-- A kind of device as a backend offers it, and how honestly a share of it is kept.
CREATE TABLE device_class (
    name        text PRIMARY KEY,
    -- How devices are divided: 'exclusive', 'shared' (consumable capacity), 'mps' (one claim shared by many), 'mig' (profiles).
    sharing     text NOT NULL,
    -- A share is rounded up to a multiple of it, milli-GPU.
    step_milli  integer NOT NULL DEFAULT 10,
    enforcement text NOT NULL,
    -- Names of models, exact or ending in `*`; empty is any.
    models      text[] NOT NULL DEFAULT '{}',
    -- The DeviceClass of Kubernetes that claims name; empty for backends without one.
    claim_class text NOT NULL DEFAULT '',
    -- What a whole device of it is worth beside others; dearer ones are kept for those who ask for them.
    worth       integer NOT NULL DEFAULT 100,
    version     bigint NOT NULL DEFAULT 1,
    CONSTRAINT device_class_name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$'),
    CONSTRAINT device_class_sharing CHECK (sharing IN ('exclusive', 'shared', 'mps', 'mig')),
    CONSTRAINT device_class_enforcement CHECK (enforcement IN ('hard', 'soft', 'accounting_only')),
    CONSTRAINT device_class_step CHECK (step_milli BETWEEN 1 AND 1000),
    CONSTRAINT device_class_worth CHECK (worth BETWEEN 1 AND 1000000)
);

CREATE TABLE queue (
    id             uuid PRIMARY KEY,
    name           text NOT NULL UNIQUE,
    -- The devices that it is served from.
    pool           text NOT NULL DEFAULT 'default',
    -- Greater is served first.
    priority       integer NOT NULL DEFAULT 0,
    preemptible    boolean NOT NULL DEFAULT false,
    deserved_milli bigint NOT NULL DEFAULT 0,
    -- NULL is no limit.
    limit_milli    bigint,
    weight         integer NOT NULL DEFAULT 1,
    version        bigint NOT NULL DEFAULT 1,
    archived_at    timestamptz,
    CONSTRAINT queue_name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT queue_pool_is_a_dns_label CHECK (pool ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT queue_shares CHECK (deserved_milli >= 0 AND (limit_milli IS NULL OR limit_milli >= deserved_milli)),
    CONSTRAINT queue_weight CHECK (weight BETWEEN 1 AND 1000),
    -- The default queue is always there, in the default pool.
    CONSTRAINT queue_default_stays CHECK (
        id <> '00000000-0000-0000-0000-000000000000' OR (name = 'default' AND pool = 'default' AND archived_at IS NULL)
    )
);
INSERT INTO queue (id, name) VALUES ('00000000-0000-0000-0000-000000000000', 'default');

-- What whoever is bound to it may use, and when. Without any plan, a project uses the default queue at any time.
CREATE TABLE plan (
    id            uuid PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    -- Models as in `device_class.models`; empty is any.
    models        text[] NOT NULL DEFAULT '{}',
    -- Of one runtime; NULL is no limit.
    gpus_max      integer,
    gpu_milli_max bigint,
    cpu_milli_max bigint,
    memory_max    bigint,
    lifetime_max_s integer,
    version       bigint NOT NULL DEFAULT 1,
    archived_at   timestamptz,
    CONSTRAINT plan_name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT plan_limits CHECK (
        coalesce(gpus_max, 0) BETWEEN 0 AND 32 AND coalesce(gpu_milli_max, 0) >= 0 AND coalesce(cpu_milli_max, 0) >= 0
        AND coalesce(memory_max, 0) >= 0 AND coalesce(lifetime_max_s, 60) >= 60
    )
);

-- The queues that a plan opens.
CREATE TABLE plan_queue (
    plan_id  uuid NOT NULL REFERENCES plan (id) ON DELETE CASCADE,
    queue_id uuid NOT NULL REFERENCES queue (id),
    PRIMARY KEY (plan_id, queue_id)
);
CREATE INDEX plan_queue_by_queue ON plan_queue (queue_id);

-- When a plan is open; one without windows is always open. Weekly on the clock of a zone, or once.
CREATE TABLE plan_window (
    id          uuid PRIMARY KEY,
    plan_id     uuid NOT NULL REFERENCES plan (id) ON DELETE CASCADE,
    time_zone   text NOT NULL DEFAULT 'UTC',
    -- Weekly: days on which it opens (1 is Monday), minutes after midnight; an end that is not after the start is on the next day.
    weekdays    smallint[],
    start_minute smallint,
    end_minute  smallint,
    -- Once.
    starts_at   timestamptz,
    ends_at     timestamptz,
    CONSTRAINT plan_window_is_weekly_or_once CHECK (
        (weekdays IS NOT NULL AND start_minute BETWEEN 0 AND 1439 AND end_minute BETWEEN 0 AND 1440
            AND cardinality(weekdays) BETWEEN 1 AND 7 AND 1 <= ALL (weekdays) AND 7 >= ALL (weekdays)
            AND starts_at IS NULL AND ends_at IS NULL)
        OR (weekdays IS NULL AND start_minute IS NULL AND end_minute IS NULL AND starts_at < ends_at)
    )
);
CREATE INDEX plan_window_by_plan ON plan_window (plan_id);

-- Which plans a project's runtimes may choose.
CREATE TABLE project_plan (
    project_id uuid NOT NULL REFERENCES project (id),
    plan_id    uuid NOT NULL REFERENCES plan (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, plan_id)
);
CREATE INDEX project_plan_by_plan ON project_plan (plan_id);

-- What a project's runtimes may do and hold at once; a project without a row has the defaults: any image, no root, no limits.
CREATE TABLE project_policy (
    project_id      uuid PRIMARY KEY REFERENCES project (id),
    -- References, prefixes ending in `*`, or `name@sha256:…`; empty is any.
    images          text[] NOT NULL DEFAULT '{}',
    allow_root      boolean NOT NULL DEFAULT false,
    -- NULL is no limit.
    gpu_milli       bigint,
    -- JSON object: model to milli-GPU.
    model_milli     jsonb NOT NULL DEFAULT '{}',
    cpu_milli       bigint,
    memory_bytes    bigint,
    storage_bytes   bigint,
    runtimes        bigint,
    -- Of its runtimes, how many may be stopped for others within an hour; NULL is any number.
    disruptions_per_hour integer,
    -- The longest that a runtime may ask for; NULL is no bound.
    idle_timeout_max_s integer,
    lifetime_max_s  integer,
    version         bigint NOT NULL DEFAULT 1,
    CONSTRAINT project_policy_limits CHECK (
        coalesce(gpu_milli, 0) >= 0 AND coalesce(cpu_milli, 0) >= 0 AND coalesce(memory_bytes, 0) >= 0
        AND coalesce(storage_bytes, 0) >= 0 AND coalesce(runtimes, 0) >= 0 AND coalesce(disruptions_per_hour, 0) >= 0
        AND coalesce(idle_timeout_max_s, 60) >= 60 AND coalesce(lifetime_max_s, 60) >= 60
    )
);

-- A project that a group owns lets containers run as root only when its group may as well.
CREATE TABLE group_policy (
    group_id   uuid PRIMARY KEY REFERENCES user_group (id) ON DELETE CASCADE,
    allow_root boolean NOT NULL DEFAULT false
);

-- What a workspace's runtime is to be. Takes effect with its next start.
CREATE TABLE runtime_spec (
    workspace_id uuid PRIMARY KEY REFERENCES workspace (id),
    version      bigint NOT NULL DEFAULT 1,
    -- `domain::runtime::Spec` as JSON.
    spec         jsonb NOT NULL,
    -- Where it waits for devices.
    queue_id     uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' REFERENCES queue (id),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- Nobody may be placed there while it is so; what runs goes on.
CREATE TABLE drained_node (
    pool       text NOT NULL,
    node       text NOT NULL,
    -- A device of it, or empty for all.
    device     text NOT NULL DEFAULT '',
    reason     text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pool, node, device)
);

-- === what is so ===

-- The devices that one placer decides about. It lives in a shard, and that shard's epoch guards its rows.
CREATE TABLE pool (
    name  text PRIMARY KEY,
    shard smallint NOT NULL REFERENCES shard (id),
    CONSTRAINT pool_name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')
);

CREATE TABLE node (
    id           uuid PRIMARY KEY,
    pool         text NOT NULL REFERENCES pool (name),
    name         text NOT NULL,
    zone         text NOT NULL DEFAULT '',
    cpu_milli    bigint NOT NULL,
    memory_bytes bigint NOT NULL,
    -- Held by ours.
    cpu_used     bigint NOT NULL DEFAULT 0,
    memory_used  bigint NOT NULL DEFAULT 0,
    -- As its backend last said; a node that is gone keeps its row while somebody holds something of it.
    state        text NOT NULL DEFAULT 'ready',
    CONSTRAINT node_once UNIQUE (pool, name),
    CONSTRAINT node_state CHECK (state IN ('ready', 'unschedulable', 'lost', 'gone')),
    CONSTRAINT node_never_holds_less_than_nothing CHECK (cpu_used >= 0 AND memory_used >= 0)
);

-- Sums of what is held of each device. The checks are the last line: whatever a placer believes, nothing is promised twice.
CREATE TABLE device (
    id           uuid PRIMARY KEY,
    node_id      uuid NOT NULL REFERENCES node (id),
    -- As its backend names it on its node; the hardware's own id where there is one.
    name         text NOT NULL,
    hardware_id  text NOT NULL DEFAULT '',
    class        text NOT NULL,
    model        text NOT NULL,
    memory_bytes bigint NOT NULL,
    -- `domain::device::Sharing` as JSON.
    sharing      jsonb NOT NULL,
    link_group   integer NOT NULL DEFAULT 0,
    healthy      boolean NOT NULL DEFAULT true,
    -- Why not.
    condition    text NOT NULL DEFAULT '',
    used_milli   integer NOT NULL DEFAULT 0,
    used_memory  bigint NOT NULL DEFAULT 0,
    -- One bit for each slot of a partitioned device that is held.
    used_slots   bigint NOT NULL DEFAULT 0,
    version      bigint NOT NULL DEFAULT 1,
    CONSTRAINT device_once UNIQUE (node_id, name),
    CONSTRAINT device_is_never_promised_twice CHECK (used_milli BETWEEN 0 AND 1000 AND used_memory >= 0 AND used_memory <= memory_bytes)
);

-- One life of a workspace's runtime, and where it stands.
CREATE TABLE runtime (
    workspace_id uuid PRIMARY KEY REFERENCES workspace (id),
    project_id   uuid NOT NULL,
    pool         text NOT NULL REFERENCES pool (name),
    queue_id     uuid NOT NULL,
    plan_id      uuid,
    -- Rises with every start; with the workspace it names the objects of a backend.
    number       bigint NOT NULL,
    -- The ledger knows this life by it.
    holder       uuid NOT NULL UNIQUE,
    -- What was in force at its start.
    spec_version bigint NOT NULL,
    spec         jsonb NOT NULL,
    state        text NOT NULL,
    -- Within the state: queued, nominated, placed, and what the backend says.
    step         text NOT NULL DEFAULT '',
    -- Why it is in this state, and in words.
    reason       text NOT NULL DEFAULT '',
    message      text NOT NULL DEFAULT '',
    hint         text NOT NULL DEFAULT '',
    -- The key that its start was asked with: the same one again is the same start.
    start_key    text NOT NULL DEFAULT '',
    -- It starts once more when it has ended.
    start_again  boolean NOT NULL DEFAULT false,
    -- Raised with every order to a backend: an older report does not count.
    fence        bigint NOT NULL DEFAULT 0,
    node_id      uuid,
    -- Where a proxy reaches it, and the key that opens it, sealed by the cluster's key.
    endpoint     text NOT NULL DEFAULT '',
    access_key   bytea,
    requested_by uuid,
    submitted_at timestamptz NOT NULL,
    -- When the step began.
    step_at      timestamptz NOT NULL DEFAULT now(),
    placed_at    timestamptz,
    running_at   timestamptz,
    stopped_at   timestamptz,
    -- The latest that somebody was known to be active, as proxies and backends reported.
    active_at    timestamptz,
    protected_until timestamptz,
    -- What will end it, and when, as far as is known: shown as a countdown.
    ends_at      timestamptz,
    ends_because text NOT NULL DEFAULT '',
    CONSTRAINT runtime_state CHECK (state IN ('stopped', 'starting', 'running', 'stopping', 'error')),
    CONSTRAINT runtime_number CHECK (number >= 1)
);
CREATE INDEX runtime_by_project ON runtime (project_id);
CREATE INDEX runtime_alive ON runtime (pool) WHERE state IN ('starting', 'running', 'stopping');

-- Who holds what of which device; the row goes when the backend says that the processes are gone.
CREATE TABLE grant_of_device (
    device_id    uuid NOT NULL REFERENCES device (id),
    holder       uuid NOT NULL,
    -- 'held', or 'nominated': kept for a holder whose victims are still leaving.
    state        text NOT NULL DEFAULT 'held',
    milli        integer NOT NULL,
    memory_bytes bigint NOT NULL,
    slots        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (device_id, holder),
    CONSTRAINT grant_of_device_state CHECK (state IN ('held', 'nominated')),
    CONSTRAINT grant_of_device_is_something CHECK (milli BETWEEN 1 AND 1000 AND memory_bytes >= 0)
);
CREATE INDEX grant_of_device_by_holder ON grant_of_device (holder);

-- What a holder has of a node and of its project's quota, and for whom it makes room.
CREATE TABLE placement (
    holder          uuid PRIMARY KEY,
    pool            text NOT NULL REFERENCES pool (name),
    node_id         uuid NOT NULL REFERENCES node (id),
    project_id      uuid NOT NULL,
    queue_id        uuid NOT NULL,
    state           text NOT NULL,
    cpu_milli       bigint NOT NULL,
    memory_bytes    bigint NOT NULL,
    -- As it was asked for: what quotas, limits and fairness count.
    effective_milli bigint NOT NULL,
    model           text NOT NULL DEFAULT '',
    -- Of a nomination: who has to leave.
    victims         uuid[] NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT placement_state CHECK (state IN ('nominated', 'held', 'releasing'))
);
CREATE INDEX placement_by_pool ON placement (pool);
CREATE INDEX placement_by_node ON placement (node_id);

-- What a project holds over all pools. Moved in the transaction that places and releases, and compared there with its policy.
CREATE TABLE project_usage (
    project_id   uuid PRIMARY KEY,
    gpu_milli    bigint NOT NULL DEFAULT 0,
    model_milli  jsonb NOT NULL DEFAULT '{}',
    cpu_milli    bigint NOT NULL DEFAULT 0,
    memory_bytes bigint NOT NULL DEFAULT 0,
    storage_bytes bigint NOT NULL DEFAULT 0,
    runtimes     bigint NOT NULL DEFAULT 0,
    CONSTRAINT project_usage_is_never_negative CHECK (gpu_milli >= 0 AND cpu_milli >= 0 AND memory_bytes >= 0 AND storage_bytes >= 0 AND runtimes >= 0)
);

-- Everything that happened to a runtime, for its timeline. Rows are only added.
CREATE TABLE runtime_event (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id uuid NOT NULL,
    number       bigint NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    state        text NOT NULL,
    step         text NOT NULL DEFAULT '',
    reason       text NOT NULL DEFAULT '',
    message      text NOT NULL DEFAULT '',
    -- Whose act it was; NULL is the cluster's own.
    actor        uuid
);
CREATE INDEX runtime_event_by_workspace ON runtime_event (workspace_id, id);
-- How often a project was disturbed lately.
CREATE INDEX runtime_event_of_preemptions ON runtime_event (at) WHERE reason = 'PREEMPTED' AND state = 'stopping';
