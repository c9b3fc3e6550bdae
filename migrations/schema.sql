-- Written by `cargo xtask tidy --schema`: what all migrations together give.
-- PostgreSQL 15

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION public.run_begins() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO unfinished_run (shard, run_id) SELECT shard, id FROM begun WHERE completed_at IS NULL;
    RETURN NULL;
END $$;

CREATE FUNCTION public.run_ends() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- Each by its key, whatever was planned while the list was short.
    DELETE FROM unfinished_run WHERE ctid = ANY (ARRAY(
        SELECT u.ctid FROM changed c
         CROSS JOIN LATERAL (SELECT ctid FROM unfinished_run WHERE shard = c.shard AND run_id = c.id OFFSET 0) AS u
         WHERE c.completed_at IS NOT NULL));
    RETURN NULL;
END $$;

CREATE FUNCTION public.run_goes_on() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO unfinished_run (shard, run_id) VALUES (NEW.shard, NEW.id) ON CONFLICT DO NOTHING;
    -- Whoever has just deleted lines of the life before leaves what was noted since.
    INSERT INTO log_straggler (pipeline_id, run_id) VALUES (NEW.pipeline_id, NEW.id)
    ON CONFLICT (pipeline_id, run_id) DO UPDATE SET noted_at = excluded.noted_at;
    RETURN NULL;
END $$;

CREATE TABLE public.access_token (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    origin text,
    CONSTRAINT access_token_hash CHECK ((length(secret_hash) = 32)),
    CONSTRAINT access_token_name CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT access_token_origin_check CHECK ((origin = ANY (ARRAY['person'::text, 'password'::text, 'elsewhere'::text, 'operator'::text])))
);

CREATE TABLE public.attempt (
    run_id uuid NOT NULL,
    block text NOT NULL,
    child integer NOT NULL,
    lease bigint NOT NULL,
    executor_id uuid,
    outcome text NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone DEFAULT now() NOT NULL,
    error jsonb,
    CONSTRAINT attempt_outcome_check CHECK ((outcome = ANY (ARRAY['failed'::text, 'lost'::text, 'released'::text])))
);

CREATE TABLE public.audit_entry (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    user_id uuid,
    actor text NOT NULL,
    via text NOT NULL,
    method text NOT NULL,
    project_id uuid,
    workspace_id uuid,
    object text NOT NULL,
    outcome text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT audit_entry_outcome CHECK ((outcome = ANY (ARRAY['ok'::text, 'denied'::text, 'failed'::text])))
);

ALTER TABLE public.audit_entry ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_entry_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.backfill (
    id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    shard smallint NOT NULL,
    name text NOT NULL,
    start_at timestamp with time zone NOT NULL,
    end_at timestamp with time zone NOT NULL,
    unit text NOT NULL,
    every integer NOT NULL,
    time_zone text NOT NULL,
    descending boolean NOT NULL,
    parallelism integer NOT NULL,
    variables jsonb DEFAULT '{}'::jsonb NOT NULL,
    allow_blocks_to_fail boolean DEFAULT false NOT NULL,
    status text NOT NULL,
    total bigint NOT NULL,
    started bigint DEFAULT 0 NOT NULL,
    completed bigint DEFAULT 0 NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    cancelled bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    completed_at timestamp with time zone,
    cron text,
    last_at timestamp with time zone,
    pause_reason text,
    CONSTRAINT backfill_counts_add_up CHECK (((((completed + failed) + cancelled) <= started) AND (started <= total))),
    CONSTRAINT backfill_cron_check CHECK (((length(cron) >= 1) AND (length(cron) <= 255))),
    CONSTRAINT backfill_cron_is_there CHECK (((unit = 'cron'::text) = (cron IS NOT NULL))),
    CONSTRAINT backfill_every_check CHECK ((every > 0)),
    CONSTRAINT backfill_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255))),
    CONSTRAINT backfill_parallelism_check CHECK (((parallelism >= 1) AND (parallelism <= 1000))),
    CONSTRAINT backfill_range_goes_forward CHECK ((start_at <= end_at)),
    CONSTRAINT backfill_status_check CHECK ((status = ANY (ARRAY['running'::text, 'paused'::text, 'completed'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT backfill_total_check CHECK ((total > 0)),
    CONSTRAINT backfill_unit_check CHECK ((unit = ANY (ARRAY['second'::text, 'minute'::text, 'hour'::text, 'day'::text, 'week'::text, 'month'::text, 'year'::text, 'cron'::text])))
)
WITH (fillfactor='70');

CREATE TABLE public.block_limit (
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    max_blocks integer,
    source text NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT block_limit_max_blocks_check CHECK (((max_blocks >= 1) AND (max_blocks <= 1000000))),
    CONSTRAINT block_limit_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT block_limit_source_check CHECK ((source = ANY (ARRAY['project'::text, 'api'::text])))
);

CREATE TABLE public.block_run (
    run_id uuid NOT NULL,
    block text NOT NULL,
    child integer DEFAULT '-1'::integer NOT NULL,
    status text NOT NULL,
    lease bigint DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    deaths smallint DEFAULT 0 NOT NULL,
    executor_id uuid,
    not_before timestamp with time zone,
    started_at timestamp with time zone,
    attempt_started_at timestamp with time zone,
    completed_at timestamp with time zone,
    output jsonb,
    error jsonb,
    children integer,
    CONSTRAINT block_run_child_check CHECK ((child >= '-1'::integer)),
    CONSTRAINT block_run_children_check CHECK ((children >= 0)),
    CONSTRAINT block_run_running_has_executor CHECK (((status <> 'running'::text) OR (executor_id IS NOT NULL) OR (children IS NOT NULL))),
    CONSTRAINT block_run_status_check CHECK ((status = ANY (ARRAY['initial'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'upstream_failed'::text, 'condition_failed'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0.002', autovacuum_vacuum_threshold='5000', fillfactor='40');

CREATE TABLE public.block_stat (
    workspace_id uuid NOT NULL,
    day date NOT NULL,
    pipeline_id uuid NOT NULL,
    block text NOT NULL,
    status text NOT NULL,
    bucket smallint NOT NULL,
    runs bigint NOT NULL,
    total_ms double precision NOT NULL,
    longest_ms double precision NOT NULL
)
WITH (fillfactor='70');

CREATE TABLE public.browser_session (
    secret_hash bytea NOT NULL,
    csrf_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    origin text,
    CONSTRAINT browser_session_hashes CHECK (((length(secret_hash) = 32) AND (length(csrf_hash) = 32))),
    CONSTRAINT browser_session_origin_check CHECK ((origin = ANY (ARRAY['password'::text, 'elsewhere'::text, 'operator'::text])))
);

CREATE TABLE public.bundle (
    digest text NOT NULL,
    project_name text NOT NULL,
    file_count integer NOT NULL,
    size_bytes bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT bundle_digest_is_sha256 CHECK ((digest ~ '^sha256:[0-9a-f]{64}$'::text)),
    CONSTRAINT bundle_file_count_check CHECK ((file_count >= 0)),
    CONSTRAINT bundle_size_bytes_check CHECK ((size_bytes >= 0))
);

CREATE TABLE public.device (
    id uuid NOT NULL,
    node_id uuid NOT NULL,
    name text NOT NULL,
    hardware_id text DEFAULT ''::text NOT NULL,
    class text NOT NULL,
    model text NOT NULL,
    memory_bytes bigint NOT NULL,
    sharing jsonb NOT NULL,
    link_group integer DEFAULT 0 NOT NULL,
    healthy boolean DEFAULT true NOT NULL,
    condition text DEFAULT ''::text NOT NULL,
    used_milli integer DEFAULT 0 NOT NULL,
    used_memory bigint DEFAULT 0 NOT NULL,
    used_slots bigint DEFAULT 0 NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT device_is_never_promised_twice CHECK ((((used_milli >= 0) AND (used_milli <= 1000)) AND (used_memory >= 0) AND (used_memory <= memory_bytes)))
);

CREATE TABLE public.device_class (
    name text NOT NULL,
    sharing text NOT NULL,
    step_milli integer DEFAULT 10 NOT NULL,
    enforcement text NOT NULL,
    models text[] DEFAULT '{}'::text[] NOT NULL,
    claim_class text DEFAULT ''::text NOT NULL,
    worth integer DEFAULT 100 NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT device_class_enforcement CHECK ((enforcement = ANY (ARRAY['hard'::text, 'soft'::text, 'accounting_only'::text]))),
    CONSTRAINT device_class_name_is_a_dns_label CHECK ((name ~ '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$'::text)),
    CONSTRAINT device_class_sharing CHECK ((sharing = ANY (ARRAY['exclusive'::text, 'shared'::text, 'mps'::text, 'mig'::text]))),
    CONSTRAINT device_class_step CHECK (((step_milli >= 1) AND (step_milli <= 1000))),
    CONSTRAINT device_class_worth CHECK (((worth >= 1) AND (worth <= 1000000)))
);

CREATE TABLE public.drained_node (
    pool text NOT NULL,
    node text NOT NULL,
    device text DEFAULT ''::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.executor (
    id uuid NOT NULL,
    name text NOT NULL,
    backend text NOT NULL,
    slots integer NOT NULL,
    version text NOT NULL,
    state text NOT NULL,
    running integer DEFAULT 0 NOT NULL,
    connected_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT executor_slots_check CHECK ((slots >= 0)),
    CONSTRAINT executor_state_check CHECK ((state = ANY (ARRAY['online'::text, 'draining'::text, 'lost'::text, 'gone'::text])))
)
WITH (fillfactor='70');

CREATE TABLE public.firing (
    trigger_id uuid NOT NULL,
    logical_key text NOT NULL,
    decided text NOT NULL,
    reason text,
    run_id uuid,
    shard_epoch bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    trigger_version bigint,
    execution_date timestamp with time zone,
    last_date timestamp with time zone,
    times integer DEFAULT 1 NOT NULL,
    CONSTRAINT firing_decided_check CHECK ((decided = ANY (ARRAY['fired'::text, 'skipped'::text]))),
    CONSTRAINT firing_has_run_or_reason CHECK ((((decided = 'fired'::text) = (run_id IS NOT NULL)) AND ((decided = 'skipped'::text) = (reason IS NOT NULL)))),
    CONSTRAINT firing_logical_key_check CHECK (((length(logical_key) >= 1) AND (length(logical_key) <= 255))),
    CONSTRAINT firing_times_check CHECK ((times > 0))
);

CREATE TABLE public.placement (
    holder uuid NOT NULL,
    pool text NOT NULL,
    node_id uuid NOT NULL,
    project_id uuid NOT NULL,
    queue_id uuid NOT NULL,
    state text NOT NULL,
    cpu_milli bigint NOT NULL,
    memory_bytes bigint NOT NULL,
    effective_milli bigint NOT NULL,
    model text DEFAULT ''::text NOT NULL,
    victims uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    storage_bytes bigint DEFAULT 0 NOT NULL,
    workspace_id uuid,
    counted_from timestamp with time zone,
    CONSTRAINT placement_state CHECK ((state = ANY (ARRAY['nominated'::text, 'held'::text, 'releasing'::text])))
);

CREATE TABLE public.runtime (
    workspace_id uuid NOT NULL,
    project_id uuid NOT NULL,
    pool text NOT NULL,
    queue_id uuid NOT NULL,
    plan_id uuid,
    number bigint NOT NULL,
    holder uuid NOT NULL,
    spec_version bigint NOT NULL,
    spec jsonb NOT NULL,
    state text NOT NULL,
    step text DEFAULT ''::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    hint text DEFAULT ''::text NOT NULL,
    start_key text DEFAULT ''::text NOT NULL,
    start_again boolean DEFAULT false NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    node_id uuid,
    endpoint text DEFAULT ''::text NOT NULL,
    access_key bytea,
    requested_by uuid,
    submitted_at timestamp with time zone NOT NULL,
    step_at timestamp with time zone DEFAULT now() NOT NULL,
    placed_at timestamp with time zone,
    running_at timestamp with time zone,
    stopped_at timestamp with time zone,
    active_at timestamp with time zone,
    protected_until timestamp with time zone,
    ends_at timestamp with time zone,
    ends_because text DEFAULT ''::text NOT NULL,
    gang jsonb,
    expected_at timestamp with time zone,
    "position" integer,
    CONSTRAINT runtime_number CHECK ((number >= 1)),
    CONSTRAINT runtime_state CHECK ((state = ANY (ARRAY['stopped'::text, 'starting'::text, 'running'::text, 'stopping'::text, 'error'::text])))
);

CREATE VIEW public.gpu_held AS
 SELECT p.holder,
    COALESCE(p.counted_from, p.created_at) AS held_at,
    p.project_id,
    p.queue_id,
    COALESCE(p.workspace_id, r.workspace_id) AS workspace_id,
    r.requested_by AS person_id,
    p.model,
    p.effective_milli AS gpu_milli
   FROM (public.placement p
     LEFT JOIN public.runtime r ON ((r.holder = p.holder)))
  WHERE ((p.state <> 'nominated'::text) AND (p.effective_milli > 0));

CREATE TABLE public.gpu_usage (
    holder uuid NOT NULL,
    held_at timestamp with time zone NOT NULL,
    freed_at timestamp with time zone NOT NULL,
    project_id uuid NOT NULL,
    queue_id uuid NOT NULL,
    workspace_id uuid,
    person_id uuid,
    model text NOT NULL,
    gpu_milli bigint NOT NULL,
    CONSTRAINT gpu_usage_is_something CHECK (((gpu_milli > 0) AND (held_at < freed_at)))
);

CREATE TABLE public.grant_of_device (
    device_id uuid NOT NULL,
    holder uuid NOT NULL,
    state text DEFAULT 'held'::text NOT NULL,
    milli integer NOT NULL,
    memory_bytes bigint NOT NULL,
    slots bigint DEFAULT 0 NOT NULL,
    CONSTRAINT grant_of_device_is_something CHECK ((((milli >= 1) AND (milli <= 1000)) AND (memory_bytes >= 0))),
    CONSTRAINT grant_of_device_state CHECK ((state = ANY (ARRAY['held'::text, 'nominated'::text])))
);

CREATE TABLE public.group_policy (
    group_id uuid NOT NULL,
    allow_root boolean DEFAULT false NOT NULL,
    gpu_milli bigint,
    model_milli jsonb DEFAULT '{}'::jsonb NOT NULL,
    cpu_milli bigint,
    memory_bytes bigint,
    storage_bytes bigint,
    runtimes bigint,
    version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE public.idempotency (
    method text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    response bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT idempotency_key_check CHECK (((length(key) >= 1) AND (length(key) <= 255)))
);

CREATE TABLE public.lateness_stat (
    workspace_id uuid NOT NULL,
    day date NOT NULL,
    pipeline_id uuid NOT NULL,
    trigger_id uuid NOT NULL,
    bucket smallint NOT NULL,
    runs bigint NOT NULL,
    total_ms double precision NOT NULL,
    longest_ms double precision NOT NULL
)
WITH (fillfactor='70');

CREATE UNLOGGED TABLE public.lease (
    name text NOT NULL,
    owner uuid NOT NULL,
    CONSTRAINT lease_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)))
)
WITH (fillfactor='50');

CREATE UNLOGGED TABLE public.lease_owner (
    id uuid NOT NULL,
    lease_until timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.limit_hold (
    workspace_id uuid NOT NULL,
    key text NOT NULL,
    shard smallint NOT NULL,
    held integer NOT NULL,
    wanted integer NOT NULL,
    CONSTRAINT limit_hold_held_check CHECK ((held >= 0)),
    CONSTRAINT limit_hold_wanted_check CHECK ((wanted >= 0))
)
WITH (fillfactor='50');

CREATE TABLE public.limit_pool (
    workspace_id uuid NOT NULL,
    key text NOT NULL,
    max integer NOT NULL,
    used integer DEFAULT 0 NOT NULL,
    CONSTRAINT limit_pool_is_not_exceeded CHECK (((used >= 0) AND (used <= max))),
    CONSTRAINT limit_pool_max_check CHECK ((max >= 0))
)
WITH (fillfactor='50');

CREATE TABLE public.log_chunk (
    after_id bigint NOT NULL,
    last_id bigint NOT NULL,
    lines integer NOT NULL,
    min_at timestamp with time zone NOT NULL,
    max_at timestamp with time zone NOT NULL,
    max_level smallint NOT NULL,
    workspaces uuid[] NOT NULL,
    pipelines uuid[] NOT NULL,
    triggers uuid[] NOT NULL,
    grams bytea NOT NULL,
    blocks text[],
    block_types text[],
    errors_of uuid[],
    CONSTRAINT log_chunk_goes_up CHECK ((last_id > after_id)),
    CONSTRAINT log_chunk_lines_check CHECK ((lines > 0))
);
ALTER TABLE ONLY public.log_chunk ALTER COLUMN grams SET STORAGE EXTERNAL;

CREATE TABLE public.log_line (
    id bigint NOT NULL,
    run_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    block text DEFAULT ''::text NOT NULL,
    child integer DEFAULT '-1'::integer NOT NULL,
    lease bigint DEFAULT 0 NOT NULL,
    level smallint NOT NULL,
    stream text NOT NULL,
    message text NOT NULL,
    block_type text DEFAULT ''::text NOT NULL
)
PARTITION BY RANGE (at);

CREATE TABLE public.log_line_default (
    id bigint NOT NULL,
    run_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    block text DEFAULT ''::text NOT NULL,
    child integer DEFAULT '-1'::integer NOT NULL,
    lease bigint DEFAULT 0 NOT NULL,
    level smallint NOT NULL,
    stream text NOT NULL,
    message text NOT NULL,
    block_type text DEFAULT ''::text NOT NULL
);

ALTER TABLE public.log_line ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.log_line_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.log_straggler (
    pipeline_id uuid NOT NULL,
    run_id uuid NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.model (
    id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    archived_at timestamp with time zone,
    CONSTRAINT model_name_is_a_label CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

CREATE TABLE public.model_upload (
    id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    file_name text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    received_bytes bigint DEFAULT 0 NOT NULL,
    parts text[] DEFAULT '{}'::text[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid,
    CONSTRAINT model_upload_received CHECK (((received_bytes >= 0) AND (received_bytes <= size_bytes))),
    CONSTRAINT model_upload_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT model_upload_size_bytes_check CHECK ((size_bytes >= 0))
);

CREATE TABLE public.model_version (
    id uuid NOT NULL,
    model_id uuid NOT NULL,
    file_name text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid,
    parts text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT model_version_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT model_version_size_bytes_check CHECK ((size_bytes >= 0))
);

CREATE TABLE public.node (
    id uuid NOT NULL,
    pool text NOT NULL,
    name text NOT NULL,
    zone text DEFAULT ''::text NOT NULL,
    cpu_milli bigint NOT NULL,
    memory_bytes bigint NOT NULL,
    cpu_used bigint DEFAULT 0 NOT NULL,
    memory_used bigint DEFAULT 0 NOT NULL,
    state text DEFAULT 'ready'::text NOT NULL,
    CONSTRAINT node_never_holds_less_than_nothing CHECK (((cpu_used >= 0) AND (memory_used >= 0))),
    CONSTRAINT node_state CHECK ((state = ANY (ARRAY['ready'::text, 'unschedulable'::text, 'lost'::text, 'gone'::text])))
);

CREATE TABLE public.notification (
    id bigint NOT NULL,
    key text NOT NULL,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    pipeline_version bigint NOT NULL,
    run_id uuid,
    event text NOT NULL,
    source text NOT NULL,
    channel text NOT NULL,
    facts jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    not_before timestamp with time zone DEFAULT now() NOT NULL,
    error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT notification_ended_has_time CHECK (((status <> 'pending'::text) = (ended_at IS NOT NULL))),
    CONSTRAINT notification_event_check CHECK ((event = ANY (ARRAY['failure'::text, 'success'::text, 'passed_sla'::text, 'test'::text]))),
    CONSTRAINT notification_source_check CHECK ((source = ANY (ARRAY['project'::text, 'pipeline'::text, 'workspace'::text]))),
    CONSTRAINT notification_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'sent'::text, 'failed'::text])))
);

CREATE TABLE public.notification_config (
    workspace_id uuid NOT NULL,
    pipeline_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    config jsonb NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    key_id text,
    wrapped_key bytea,
    sealed bytea,
    CONSTRAINT notification_config_seal_is_whole CHECK ((num_nonnulls(key_id, wrapped_key, sealed) = ANY (ARRAY[0, 3])))
);

ALTER TABLE public.notification ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.notification_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.notification_lane (
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    source text NOT NULL,
    channel text NOT NULL,
    failures integer NOT NULL,
    not_before timestamp with time zone NOT NULL,
    CONSTRAINT notification_lane_failures_check CHECK ((failures > 0))
);

CREATE TABLE public.oidc_sign_in (
    key_hash bytea NOT NULL,
    nonce text NOT NULL,
    verifier text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT oidc_sign_in_hash CHECK ((length(key_hash) = 32))
);

CREATE TABLE public.output_removal (
    run_id uuid NOT NULL,
    bundle_digest text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    not_before timestamp with time zone NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    error text,
    CONSTRAINT output_removal_tries_check CHECK ((tries >= 0))
)
WITH (fillfactor='70');

CREATE TABLE public.pipeline (
    id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    archived_at timestamp with time zone,
    CONSTRAINT pipeline_version_check CHECK ((version > 0))
);

CREATE TABLE public.pipeline_log_mark (
    pipeline_id uuid NOT NULL,
    completed_at timestamp with time zone NOT NULL,
    run_id uuid NOT NULL
);

CREATE TABLE public.pipeline_log_passed (
    pipeline_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    run_id uuid NOT NULL
);

CREATE TABLE public.pipeline_version (
    pipeline_id uuid NOT NULL,
    version bigint NOT NULL,
    bundle_digest text NOT NULL,
    spec jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.placement_user (
    holder uuid NOT NULL,
    user_id uuid NOT NULL
);

CREATE TABLE public.plan (
    id uuid NOT NULL,
    name text NOT NULL,
    models text[] DEFAULT '{}'::text[] NOT NULL,
    gpus_max integer,
    gpu_milli_max bigint,
    cpu_milli_max bigint,
    memory_max bigint,
    lifetime_max_s integer,
    version bigint DEFAULT 1 NOT NULL,
    archived_at timestamp with time zone,
    CONSTRAINT plan_limits CHECK ((((COALESCE(gpus_max, 0) >= 0) AND (COALESCE(gpus_max, 0) <= 32)) AND (COALESCE(gpu_milli_max, (0)::bigint) >= 0) AND (COALESCE(cpu_milli_max, (0)::bigint) >= 0) AND (COALESCE(memory_max, (0)::bigint) >= 0) AND (COALESCE(lifetime_max_s, 60) >= 60))),
    CONSTRAINT plan_name_is_a_dns_label CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

CREATE TABLE public.plan_queue (
    plan_id uuid NOT NULL,
    queue_id uuid NOT NULL
);

CREATE TABLE public.plan_window (
    id uuid NOT NULL,
    plan_id uuid NOT NULL,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    weekdays smallint[],
    start_minute smallint,
    end_minute smallint,
    starts_at timestamp with time zone,
    ends_at timestamp with time zone,
    CONSTRAINT plan_window_is_weekly_or_once CHECK ((((weekdays IS NOT NULL) AND ((start_minute >= 0) AND (start_minute <= 1439)) AND ((end_minute >= 0) AND (end_minute <= 1440)) AND ((cardinality(weekdays) >= 1) AND (cardinality(weekdays) <= 7)) AND (1 <= ALL (weekdays)) AND (7 >= ALL (weekdays)) AND (starts_at IS NULL) AND (ends_at IS NULL)) OR ((weekdays IS NULL) AND (start_minute IS NULL) AND (end_minute IS NULL) AND (starts_at < ends_at))))
);

CREATE TABLE public.pool (
    name text NOT NULL,
    shard smallint NOT NULL,
    CONSTRAINT pool_name_is_a_dns_label CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

CREATE TABLE public.project (
    id uuid NOT NULL,
    name text NOT NULL,
    owner_user_id uuid,
    owner_group_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    archived_at timestamp with time zone,
    CONSTRAINT project_has_one_owner CHECK (((owner_user_id IS NULL) OR (owner_group_id IS NULL))),
    CONSTRAINT project_name_is_a_dns_label CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

CREATE TABLE public.project_member (
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    user_id uuid,
    group_id uuid,
    role text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT project_member_is_one CHECK (((user_id IS NULL) <> (group_id IS NULL))),
    CONSTRAINT project_member_role CHECK ((role = ANY (ARRAY['viewer'::text, 'editor'::text, 'admin'::text, 'owner'::text])))
);

CREATE TABLE public.user_group_member (
    group_id uuid NOT NULL,
    user_id uuid NOT NULL
);

CREATE VIEW public.project_access AS
 SELECT p.id AS project_id,
    p.owner_user_id AS user_id,
    4 AS rank
   FROM public.project p
  WHERE (p.owner_user_id IS NOT NULL)
UNION ALL
 SELECT p.id AS project_id,
    g.user_id,
    2 AS rank
   FROM (public.project p
     JOIN public.user_group_member g ON ((g.group_id = p.owner_group_id)))
UNION ALL
 SELECT m.project_id,
    m.user_id,
    array_position(ARRAY['viewer'::text, 'editor'::text, 'admin'::text, 'owner'::text], m.role) AS rank
   FROM public.project_member m
  WHERE (m.user_id IS NOT NULL)
UNION ALL
 SELECT m.project_id,
    g.user_id,
    array_position(ARRAY['viewer'::text, 'editor'::text, 'admin'::text, 'owner'::text], m.role) AS rank
   FROM (public.project_member m
     JOIN public.user_group_member g ON ((g.group_id = m.group_id)));

CREATE TABLE public.project_file (
    project_id uuid NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT project_file_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT project_file_size_bytes_check CHECK ((size_bytes >= 0))
);

CREATE TABLE public.project_file_total (
    project_id uuid NOT NULL,
    size_bytes bigint NOT NULL,
    CONSTRAINT project_file_total_size_bytes_check CHECK ((size_bytes >= 0))
);

CREATE TABLE public.project_plan (
    project_id uuid NOT NULL,
    plan_id uuid NOT NULL
);

CREATE TABLE public.project_policy (
    project_id uuid NOT NULL,
    images text[] DEFAULT '{}'::text[] NOT NULL,
    allow_root boolean DEFAULT false NOT NULL,
    gpu_milli bigint,
    model_milli jsonb DEFAULT '{}'::jsonb NOT NULL,
    cpu_milli bigint,
    memory_bytes bigint,
    storage_bytes bigint,
    runtimes bigint,
    disruptions_per_hour integer,
    idle_timeout_max_s integer,
    lifetime_max_s integer,
    version bigint DEFAULT 1 NOT NULL,
    over_quota_grace_s integer,
    quota_set_at timestamp with time zone,
    CONSTRAINT project_policy_limits CHECK (((COALESCE(gpu_milli, (0)::bigint) >= 0) AND (COALESCE(cpu_milli, (0)::bigint) >= 0) AND (COALESCE(memory_bytes, (0)::bigint) >= 0) AND (COALESCE(storage_bytes, (0)::bigint) >= 0) AND (COALESCE(runtimes, (0)::bigint) >= 0) AND (COALESCE(disruptions_per_hour, 0) >= 0) AND (COALESCE(idle_timeout_max_s, 60) >= 60) AND (COALESCE(lifetime_max_s, 60) >= 60)))
);

CREATE TABLE public.project_usage (
    project_id uuid NOT NULL,
    gpu_milli bigint DEFAULT 0 NOT NULL,
    model_milli jsonb DEFAULT '{}'::jsonb NOT NULL,
    cpu_milli bigint DEFAULT 0 NOT NULL,
    memory_bytes bigint DEFAULT 0 NOT NULL,
    storage_bytes bigint DEFAULT 0 NOT NULL,
    runtimes bigint DEFAULT 0 NOT NULL,
    CONSTRAINT project_usage_is_never_negative CHECK (((gpu_milli >= 0) AND (cpu_milli >= 0) AND (memory_bytes >= 0) AND (storage_bytes >= 0) AND (runtimes >= 0)))
);

CREATE TABLE public.queue (
    id uuid NOT NULL,
    name text NOT NULL,
    pool text DEFAULT 'default'::text NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    preemptible boolean DEFAULT false NOT NULL,
    deserved_milli bigint DEFAULT 0 NOT NULL,
    limit_milli bigint,
    weight integer DEFAULT 1 NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    archived_at timestamp with time zone,
    CONSTRAINT queue_default_stays CHECK (((id <> '00000000-0000-0000-0000-000000000000'::uuid) OR ((name = 'default'::text) AND (pool = 'default'::text) AND (archived_at IS NULL)))),
    CONSTRAINT queue_name_is_a_dns_label CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text)),
    CONSTRAINT queue_pool_is_a_dns_label CHECK ((pool ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text)),
    CONSTRAINT queue_shares CHECK (((deserved_milli >= 0) AND ((limit_milli IS NULL) OR (limit_milli >= deserved_milli)))),
    CONSTRAINT queue_weight CHECK (((weight >= 1) AND (weight <= 1000)))
);

CREATE TABLE public.run (
    id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    pipeline_version bigint NOT NULL,
    trigger_id uuid NOT NULL,
    shard smallint NOT NULL,
    status text NOT NULL,
    variables jsonb DEFAULT '{}'::jsonb NOT NULL,
    execution_date timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    timeout_s integer,
    allow_blocks_to_fail boolean DEFAULT false NOT NULL,
    cancel_reason text,
    reason text,
    parent_run_id uuid,
    backfill_id uuid,
    event_variables jsonb,
    sla_at timestamp with time zone,
    sla_missed_at timestamp with time zone,
    outputs_expired_at timestamp with time zone,
    timeout_cancels boolean DEFAULT false NOT NULL,
    retry_key text,
    former_end_at timestamp with time zone,
    repeated_by uuid,
    CONSTRAINT run_ended_has_time CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text])) = (completed_at IS NOT NULL))),
    CONSTRAINT run_status_check CHECK ((status = ANY (ARRAY['initial'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT run_timeout_s_check CHECK ((timeout_s > 0))
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='2000', fillfactor='45');

CREATE TABLE public.run_end (
    id bigint NOT NULL,
    run_id uuid NOT NULL,
    status text NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone NOT NULL,
    former_end_at timestamp with time zone,
    CONSTRAINT run_end_status_check CHECK ((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000');

CREATE TABLE public.run_end_batch (
    id bigint NOT NULL,
    run_ids uuid[] NOT NULL,
    statuses text[] NOT NULL,
    started_ats timestamp with time zone[] NOT NULL,
    completed_ats timestamp with time zone[] NOT NULL,
    former_end_ats timestamp with time zone[] NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');
ALTER TABLE ONLY public.run_end_batch ALTER COLUMN run_ids SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.run_end_batch ALTER COLUMN statuses SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.run_end_batch ALTER COLUMN started_ats SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.run_end_batch ALTER COLUMN completed_ats SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.run_end_batch ALTER COLUMN former_end_ats SET STORAGE EXTERNAL;

ALTER TABLE public.run_end_batch ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.run_end_batch_id_seq
    START WITH 1000000000
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE public.run_end ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.run_end_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.run_stat (
    workspace_id uuid NOT NULL,
    day date NOT NULL,
    pipeline_id uuid NOT NULL,
    trigger_id uuid NOT NULL,
    status text NOT NULL,
    bucket smallint NOT NULL,
    runs bigint NOT NULL,
    total_ms double precision NOT NULL,
    longest_ms double precision NOT NULL
)
WITH (fillfactor='70');

CREATE TABLE public.runtime_event (
    id bigint NOT NULL,
    workspace_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    state text NOT NULL,
    step text DEFAULT ''::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    actor uuid
);

ALTER TABLE public.runtime_event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.runtime_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.runtime_spec (
    workspace_id uuid NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    spec jsonb NOT NULL,
    queue_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.scheduler (
    id uuid NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    address text DEFAULT ''::text NOT NULL,
    ready_units integer DEFAULT 0 NOT NULL,
    running_units integer DEFAULT 0 NOT NULL,
    busy_permille integer DEFAULT 0 NOT NULL,
    ready_units_kubernetes integer DEFAULT 0 NOT NULL,
    running_units_kubernetes integer DEFAULT 0 NOT NULL,
    CONSTRAINT scheduler_busy_permille_check CHECK (((busy_permille >= 0) AND (busy_permille <= 1000))),
    CONSTRAINT scheduler_ready_units_check CHECK ((ready_units >= 0)),
    CONSTRAINT scheduler_ready_units_kubernetes_check CHECK ((ready_units_kubernetes >= 0)),
    CONSTRAINT scheduler_running_units_check CHECK ((running_units >= 0)),
    CONSTRAINT scheduler_running_units_kubernetes_check CHECK ((running_units_kubernetes >= 0))
)
WITH (fillfactor='50');

CREATE TABLE public.secret (
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    workspace_id uuid,
    pipeline text DEFAULT ''::text NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    key_id text NOT NULL,
    wrapped_key bytea NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by uuid,
    CONSTRAINT secret_name CHECK ((name ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,127}$'::text)),
    CONSTRAINT secret_pipeline_needs_workspace CHECK (((pipeline = ''::text) OR (workspace_id IS NOT NULL))),
    CONSTRAINT secret_version_check CHECK ((version > 0))
);

CREATE TABLE public.shard (
    id smallint NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    owner uuid,
    CONSTRAINT shard_id_check CHECK (((id >= 0) AND (id <= 255)))
)
WITH (fillfactor='50');

CREATE TABLE public.trigger (
    id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    active boolean NOT NULL,
    spec jsonb DEFAULT '{}'::jsonb NOT NULL,
    source text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    archived_at timestamp with time zone,
    enabled_at timestamp with time zone DEFAULT now() NOT NULL,
    paused_at timestamp with time zone,
    desired jsonb,
    once_version bigint DEFAULT 1 NOT NULL,
    replaced_at timestamp with time zone,
    former_paused_at timestamp with time zone,
    CONSTRAINT trigger_kind_check CHECK ((kind = ANY (ARRAY['manual'::text, 'api'::text, 'event'::text, 'time'::text]))),
    CONSTRAINT trigger_source_check CHECK ((source = ANY (ARRAY['built-in'::text, 'project'::text, 'api'::text]))),
    CONSTRAINT trigger_version_check CHECK ((version > 0))
);

CREATE TABLE public.trigger_state (
    trigger_id uuid NOT NULL,
    shard smallint NOT NULL,
    version bigint NOT NULL,
    state jsonb NOT NULL,
    waiting jsonb DEFAULT '{}'::jsonb NOT NULL,
    history jsonb DEFAULT '{}'::jsonb NOT NULL,
    next_due timestamp with time zone
)
WITH (fillfactor='70');

CREATE TABLE public.trigger_token (
    id text NOT NULL,
    trigger_id uuid NOT NULL,
    hash bytea NOT NULL,
    source text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT trigger_token_hash_is_sha256 CHECK ((length(hash) = 32)),
    CONSTRAINT trigger_token_id_check CHECK (((length(id) >= 1) AND (length(id) <= 64))),
    CONSTRAINT trigger_token_source_check CHECK ((source = ANY (ARRAY['project'::text, 'api'::text])))
);

CREATE TABLE public.unfinished_run (
    shard smallint NOT NULL,
    run_id uuid NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

CREATE TABLE public.user_account (
    id uuid NOT NULL,
    email text NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    password_hash text,
    password_state text DEFAULT 'none'::text NOT NULL,
    role text,
    oidc_issuer text,
    oidc_subject text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    disabled_at timestamp with time zone,
    CONSTRAINT user_account_email_is_lower CHECK (((email = lower(email)) AND ((length(email) >= 3) AND (length(email) <= 254)))),
    CONSTRAINT user_account_oidc_is_whole CHECK (((oidc_issuer IS NULL) = (oidc_subject IS NULL))),
    CONSTRAINT user_account_password_is_there CHECK (((password_state = 'none'::text) = (password_hash IS NULL))),
    CONSTRAINT user_account_password_state CHECK ((password_state = ANY (ARRAY['none'::text, 'one-time'::text, 'set'::text]))),
    CONSTRAINT user_account_role CHECK ((role = ANY (ARRAY['viewer'::text, 'editor'::text, 'admin'::text, 'owner'::text])))
);

CREATE TABLE public.user_group (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT user_group_name_is_a_dns_label CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

CREATE TABLE public.user_policy (
    user_id uuid NOT NULL,
    gpu_milli bigint,
    model_milli jsonb DEFAULT '{}'::jsonb NOT NULL,
    cpu_milli bigint,
    memory_bytes bigint,
    storage_bytes bigint,
    runtimes bigint,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT user_policy_limits CHECK (((COALESCE(gpu_milli, (0)::bigint) >= 0) AND (COALESCE(cpu_milli, (0)::bigint) >= 0) AND (COALESCE(memory_bytes, (0)::bigint) >= 0) AND (COALESCE(storage_bytes, (0)::bigint) >= 0) AND (COALESCE(runtimes, (0)::bigint) >= 0)))
);

CREATE TABLE public.volume (
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    name text NOT NULL,
    pool text NOT NULL,
    size_bytes bigint NOT NULL,
    created_by uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    storage_class text DEFAULT ''::text NOT NULL,
    CONSTRAINT volume_name_check CHECK ((name ~ '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'::text)),
    CONSTRAINT volume_size_bytes_check CHECK ((size_bytes > 0))
);

CREATE TABLE public.volume_state (
    volume_id uuid NOT NULL,
    state text NOT NULL,
    size_bytes bigint DEFAULT 0 NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT volume_state_size_bytes_check CHECK ((size_bytes >= 0)),
    CONSTRAINT volume_state_state_check CHECK ((state = ANY (ARRAY['ready'::text, 'failed'::text, 'deleting'::text, 'gone'::text])))
);

CREATE VIEW public.volume_that_counts AS
 SELECT v.id,
    v.project_id,
    v.size_bytes
   FROM (public.volume v
     LEFT JOIN public.volume_state s ON ((s.volume_id = v.id)))
  WHERE ((v.deleted_at IS NULL) OR (s.state IS DISTINCT FROM 'gone'::text));

CREATE TABLE public.workspace (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    bundle_digest text,
    deployed_at timestamp with time zone,
    project_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    archived_at timestamp with time zone,
    CONSTRAINT workspace_name_is_a_dns_label CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

CREATE TABLE public.workspace_member (
    workspace_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT workspace_member_role CHECK ((role = ANY (ARRAY['owner'::text, 'collaborator'::text])))
);

CREATE VIEW public.workspace_access AS
 SELECT m.workspace_id,
    m.user_id,
        CASE m.role
            WHEN 'owner'::text THEN 4
            ELSE 2
        END AS rank
   FROM public.workspace_member m
UNION ALL
 SELECT w.id AS workspace_id,
    a.user_id,
    a.rank
   FROM (public.workspace w
     JOIN public.project_access a ON ((a.project_id = w.project_id)));

CREATE TABLE public.workspace_invitation (
    workspace_id uuid NOT NULL,
    email text NOT NULL,
    role text NOT NULL,
    invited_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT workspace_invitation_role CHECK ((role = ANY (ARRAY['owner'::text, 'collaborator'::text])))
);

ALTER TABLE ONLY public.log_line ATTACH PARTITION public.log_line_default DEFAULT;

ALTER TABLE ONLY public.access_token
    ADD CONSTRAINT access_token_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.access_token
    ADD CONSTRAINT access_token_prefix_key UNIQUE (prefix);

ALTER TABLE ONLY public.attempt
    ADD CONSTRAINT attempt_pkey PRIMARY KEY (run_id, block, child, lease);

ALTER TABLE ONLY public.audit_entry
    ADD CONSTRAINT audit_entry_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.backfill
    ADD CONSTRAINT backfill_name_unique UNIQUE (pipeline_id, name);

ALTER TABLE ONLY public.backfill
    ADD CONSTRAINT backfill_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.block_limit
    ADD CONSTRAINT block_limit_pkey PRIMARY KEY (workspace_id, name);

ALTER TABLE ONLY public.block_run
    ADD CONSTRAINT block_run_pkey PRIMARY KEY (run_id, block, child);

ALTER TABLE ONLY public.block_stat
    ADD CONSTRAINT block_stat_pkey PRIMARY KEY (workspace_id, day, pipeline_id, block, status, bucket);

ALTER TABLE ONLY public.browser_session
    ADD CONSTRAINT browser_session_pkey PRIMARY KEY (secret_hash);

ALTER TABLE ONLY public.bundle
    ADD CONSTRAINT bundle_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.device_class
    ADD CONSTRAINT device_class_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.device
    ADD CONSTRAINT device_once UNIQUE (node_id, name);

ALTER TABLE ONLY public.device
    ADD CONSTRAINT device_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.drained_node
    ADD CONSTRAINT drained_node_pkey PRIMARY KEY (pool, node, device);

ALTER TABLE ONLY public.executor
    ADD CONSTRAINT executor_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.firing
    ADD CONSTRAINT firing_pkey PRIMARY KEY (trigger_id, logical_key);

ALTER TABLE ONLY public.gpu_usage
    ADD CONSTRAINT gpu_usage_pkey PRIMARY KEY (holder, held_at);

ALTER TABLE ONLY public.grant_of_device
    ADD CONSTRAINT grant_of_device_pkey PRIMARY KEY (device_id, holder);

ALTER TABLE public.group_policy
    ADD CONSTRAINT group_policy_limits CHECK (((COALESCE(gpu_milli, (0)::bigint) >= 0) AND (COALESCE(cpu_milli, (0)::bigint) >= 0) AND (COALESCE(memory_bytes, (0)::bigint) >= 0) AND (COALESCE(storage_bytes, (0)::bigint) >= 0) AND (COALESCE(runtimes, (0)::bigint) >= 0))) NOT VALID;

ALTER TABLE ONLY public.group_policy
    ADD CONSTRAINT group_policy_pkey PRIMARY KEY (group_id);

ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (method, key);

ALTER TABLE ONLY public.lateness_stat
    ADD CONSTRAINT lateness_stat_pkey PRIMARY KEY (workspace_id, day, pipeline_id, trigger_id, bucket);

ALTER TABLE ONLY public.lease_owner
    ADD CONSTRAINT lease_owner_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.limit_hold
    ADD CONSTRAINT limit_hold_pkey PRIMARY KEY (workspace_id, key, shard);

ALTER TABLE ONLY public.limit_pool
    ADD CONSTRAINT limit_pool_pkey PRIMARY KEY (workspace_id, key);

ALTER TABLE ONLY public.log_chunk
    ADD CONSTRAINT log_chunk_pkey PRIMARY KEY (after_id);

ALTER TABLE ONLY public.log_straggler
    ADD CONSTRAINT log_straggler_pkey PRIMARY KEY (pipeline_id, run_id);

ALTER TABLE ONLY public.model
    ADD CONSTRAINT model_name_unique UNIQUE (workspace_id, name);

ALTER TABLE ONLY public.model
    ADD CONSTRAINT model_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.model_upload
    ADD CONSTRAINT model_upload_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.model_version
    ADD CONSTRAINT model_version_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_once UNIQUE (pool, name);

ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.notification_config
    ADD CONSTRAINT notification_config_pkey PRIMARY KEY (workspace_id, pipeline_id);

ALTER TABLE ONLY public.notification
    ADD CONSTRAINT notification_key_key UNIQUE (key);

ALTER TABLE ONLY public.notification_lane
    ADD CONSTRAINT notification_lane_pkey PRIMARY KEY (workspace_id, pipeline_id, source, channel);

ALTER TABLE ONLY public.notification
    ADD CONSTRAINT notification_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.oidc_sign_in
    ADD CONSTRAINT oidc_sign_in_pkey PRIMARY KEY (key_hash);

ALTER TABLE ONLY public.output_removal
    ADD CONSTRAINT output_removal_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY public.pipeline_log_mark
    ADD CONSTRAINT pipeline_log_mark_pkey PRIMARY KEY (pipeline_id);

ALTER TABLE ONLY public.pipeline_log_passed
    ADD CONSTRAINT pipeline_log_passed_pkey PRIMARY KEY (pipeline_id);

ALTER TABLE ONLY public.pipeline
    ADD CONSTRAINT pipeline_name_unique UNIQUE (workspace_id, name);

ALTER TABLE ONLY public.pipeline
    ADD CONSTRAINT pipeline_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pipeline_version
    ADD CONSTRAINT pipeline_version_pkey PRIMARY KEY (pipeline_id, version);

ALTER TABLE ONLY public.placement
    ADD CONSTRAINT placement_pkey PRIMARY KEY (holder);

ALTER TABLE ONLY public.placement_user
    ADD CONSTRAINT placement_user_pkey PRIMARY KEY (holder);

ALTER TABLE ONLY public.plan
    ADD CONSTRAINT plan_name_key UNIQUE (name);

ALTER TABLE ONLY public.plan
    ADD CONSTRAINT plan_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.plan_queue
    ADD CONSTRAINT plan_queue_pkey PRIMARY KEY (plan_id, queue_id);

ALTER TABLE ONLY public.plan_window
    ADD CONSTRAINT plan_window_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.project_file
    ADD CONSTRAINT project_file_pkey PRIMARY KEY (project_id, sha256, size_bytes);

ALTER TABLE ONLY public.project_file_total
    ADD CONSTRAINT project_file_total_pkey PRIMARY KEY (project_id);

ALTER TABLE ONLY public.project_member
    ADD CONSTRAINT project_member_group_once UNIQUE (project_id, group_id);

ALTER TABLE ONLY public.project_member
    ADD CONSTRAINT project_member_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.project_member
    ADD CONSTRAINT project_member_user_once UNIQUE (project_id, user_id);

ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_name_key UNIQUE (name);

ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.project_plan
    ADD CONSTRAINT project_plan_pkey PRIMARY KEY (project_id, plan_id);

ALTER TABLE public.project_policy
    ADD CONSTRAINT project_policy_grace CHECK ((over_quota_grace_s >= 60)) NOT VALID;

ALTER TABLE ONLY public.project_policy
    ADD CONSTRAINT project_policy_pkey PRIMARY KEY (project_id);

ALTER TABLE ONLY public.project_usage
    ADD CONSTRAINT project_usage_pkey PRIMARY KEY (project_id);

ALTER TABLE ONLY public.queue
    ADD CONSTRAINT queue_name_key UNIQUE (name);

ALTER TABLE ONLY public.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.run_end_batch
    ADD CONSTRAINT run_end_batch_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.run_end
    ADD CONSTRAINT run_end_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.run
    ADD CONSTRAINT run_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.run_stat
    ADD CONSTRAINT run_stat_pkey PRIMARY KEY (workspace_id, day, pipeline_id, trigger_id, status, bucket);

ALTER TABLE ONLY public.runtime_event
    ADD CONSTRAINT runtime_event_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.runtime
    ADD CONSTRAINT runtime_holder_key UNIQUE (holder);

ALTER TABLE ONLY public.runtime
    ADD CONSTRAINT runtime_pkey PRIMARY KEY (workspace_id);

ALTER TABLE ONLY public.runtime_spec
    ADD CONSTRAINT runtime_spec_pkey PRIMARY KEY (workspace_id);

ALTER TABLE ONLY public.scheduler
    ADD CONSTRAINT scheduler_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.secret
    ADD CONSTRAINT secret_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.shard
    ADD CONSTRAINT shard_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.trigger
    ADD CONSTRAINT trigger_name_unique UNIQUE (pipeline_id, name);

ALTER TABLE ONLY public.trigger
    ADD CONSTRAINT trigger_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.trigger_state
    ADD CONSTRAINT trigger_state_pkey PRIMARY KEY (trigger_id);

ALTER TABLE ONLY public.trigger_token
    ADD CONSTRAINT trigger_token_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.unfinished_run
    ADD CONSTRAINT unfinished_run_pkey PRIMARY KEY (shard, run_id);

ALTER TABLE ONLY public.user_account
    ADD CONSTRAINT user_account_email_key UNIQUE (email);

ALTER TABLE ONLY public.user_account
    ADD CONSTRAINT user_account_oidc_unique UNIQUE (oidc_issuer, oidc_subject);

ALTER TABLE ONLY public.user_account
    ADD CONSTRAINT user_account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.user_group_member
    ADD CONSTRAINT user_group_member_pkey PRIMARY KEY (group_id, user_id);

ALTER TABLE ONLY public.user_group
    ADD CONSTRAINT user_group_name_key UNIQUE (name);

ALTER TABLE ONLY public.user_group
    ADD CONSTRAINT user_group_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.user_policy
    ADD CONSTRAINT user_policy_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.volume
    ADD CONSTRAINT volume_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.volume_state
    ADD CONSTRAINT volume_state_pkey PRIMARY KEY (volume_id);

ALTER TABLE public.volume
    ADD CONSTRAINT volume_storage_class CHECK ((storage_class ~ '^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$'::text)) NOT VALID;

ALTER TABLE ONLY public.workspace_invitation
    ADD CONSTRAINT workspace_invitation_pkey PRIMARY KEY (workspace_id, email);

ALTER TABLE ONLY public.workspace_member
    ADD CONSTRAINT workspace_member_pkey PRIMARY KEY (workspace_id, user_id);

ALTER TABLE ONLY public.workspace
    ADD CONSTRAINT workspace_name_key UNIQUE (name);

ALTER TABLE ONLY public.workspace
    ADD CONSTRAINT workspace_pkey PRIMARY KEY (id);

CREATE INDEX access_token_by_user ON public.access_token USING btree (user_id, id);

CREATE INDEX audit_entry_by_actor ON public.audit_entry USING btree (actor, id);

CREATE INDEX audit_entry_by_user ON public.audit_entry USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX audit_entry_by_workspace ON public.audit_entry USING btree (workspace_id, id) WHERE (workspace_id IS NOT NULL);

CREATE INDEX backfill_by_workspace ON public.backfill USING btree (workspace_id, id);

CREATE INDEX backfill_unfinished ON public.backfill USING btree (shard) WHERE ((status = ANY (ARRAY['running'::text, 'paused'::text])) OR (((completed + failed) + cancelled) < started));

CREATE INDEX block_limit_by_change ON public.block_limit USING btree (changed_at);

CREATE INDEX browser_session_by_end ON public.browser_session USING btree (expires_at);

CREATE INDEX browser_session_by_user ON public.browser_session USING btree (user_id);

CREATE INDEX firing_by_instant ON public.firing USING btree (trigger_id, created_at);

CREATE INDEX gpu_usage_by_time ON public.gpu_usage USING gist (tstzrange(held_at, freed_at));

CREATE INDEX grant_of_device_by_holder ON public.grant_of_device USING btree (holder);

CREATE INDEX idempotency_by_age ON public.idempotency USING btree (created_at);

CREATE INDEX limit_hold_by_shard ON public.limit_hold USING btree (shard);

CREATE INDEX log_line_by_id ON ONLY public.log_line USING btree (id);

CREATE INDEX log_line_by_run ON ONLY public.log_line USING btree (run_id, id);

CREATE INDEX log_line_default_id_idx ON public.log_line_default USING btree (id);

CREATE INDEX log_line_default_run_id_id_idx ON public.log_line_default USING btree (run_id, id);

CREATE INDEX model_upload_by_age ON public.model_upload USING btree (updated_at);

CREATE INDEX model_upload_by_content ON public.model_upload USING btree (workspace_id, name, sha256);

CREATE INDEX model_version_by_model ON public.model_version USING btree (model_id, id);

CREATE INDEX notification_by_workspace ON public.notification USING btree (workspace_id, id);

CREATE INDEX notification_due ON public.notification USING btree (not_before) WHERE (status = 'pending'::text);

CREATE INDEX notification_waiting ON public.notification USING btree (workspace_id, pipeline_id, source, channel, not_before) WHERE (status = 'pending'::text);

CREATE INDEX notification_waiting_by_age ON public.notification USING btree (created_at) WHERE (status = 'pending'::text);

CREATE INDEX oidc_sign_in_by_end ON public.oidc_sign_in USING btree (expires_at);

CREATE INDEX output_removal_due ON public.output_removal USING btree (not_before);

CREATE INDEX placement_by_node ON public.placement USING btree (node_id);

CREATE INDEX placement_by_pool ON public.placement USING btree (pool);

CREATE INDEX placement_user_by_user ON public.placement_user USING btree (user_id);

CREATE INDEX plan_queue_by_queue ON public.plan_queue USING btree (queue_id);

CREATE INDEX plan_window_by_plan ON public.plan_window USING btree (plan_id);

CREATE INDEX project_by_group ON public.project USING btree (owner_group_id) WHERE (owner_group_id IS NOT NULL);

CREATE UNIQUE INDEX project_is_personal_once ON public.project USING btree (owner_user_id) WHERE (owner_user_id IS NOT NULL);

CREATE INDEX project_member_by_group ON public.project_member USING btree (group_id) WHERE (group_id IS NOT NULL);

CREATE INDEX project_member_by_user ON public.project_member USING btree (user_id) WHERE (user_id IS NOT NULL);

CREATE INDEX project_plan_by_plan ON public.project_plan USING btree (plan_id);

CREATE INDEX run_by_backfill ON public.run USING btree (backfill_id, id) WHERE (backfill_id IS NOT NULL);

CREATE INDEX run_by_execution_date ON public.run USING btree (pipeline_id, execution_date, id);

CREATE INDEX run_by_pipeline ON public.run USING btree (pipeline_id, id);

CREATE INDEX run_by_workspace ON public.run USING btree (workspace_id, id);

CREATE INDEX run_keeps_outputs ON public.run USING btree (pipeline_id, created_at) WHERE (outputs_expired_at IS NULL);

CREATE INDEX run_without_outputs ON public.run USING btree (pipeline_id, created_at) WHERE (outputs_expired_at IS NOT NULL);

CREATE INDEX runtime_alive ON public.runtime USING btree (pool) WHERE (state = ANY (ARRAY['starting'::text, 'running'::text, 'stopping'::text]));

CREATE INDEX runtime_by_project ON public.runtime USING btree (project_id);

CREATE INDEX runtime_event_by_workspace ON public.runtime_event USING btree (workspace_id, id);

CREATE INDEX runtime_event_of_preemptions ON public.runtime_event USING btree (at) WHERE ((reason = 'PREEMPTED'::text) AND (state = 'stopping'::text));

CREATE INDEX secret_by_key ON public.secret USING btree (key_id, id);

CREATE UNIQUE INDEX secret_of_project ON public.secret USING btree (project_id, name) WHERE (workspace_id IS NULL);

CREATE UNIQUE INDEX secret_of_workspace ON public.secret USING btree (workspace_id, pipeline, name) WHERE (workspace_id IS NOT NULL);

CREATE INDEX trigger_by_change ON public.trigger USING btree (updated_at);

CREATE INDEX trigger_by_shard ON public.trigger USING btree (get_byte(uuid_send(pipeline_id), 15), id) WHERE (active AND (archived_at IS NULL) AND (kind <> 'manual'::text));

CREATE INDEX trigger_token_by_trigger ON public.trigger_token USING btree (trigger_id);

CREATE INDEX user_group_member_by_user ON public.user_group_member USING btree (user_id);

CREATE UNIQUE INDEX volume_name ON public.volume USING btree (project_id, name) WHERE (deleted_at IS NULL);

CREATE INDEX volume_of_pool ON public.volume USING btree (pool);

CREATE INDEX volume_of_project ON public.volume USING btree (project_id);

CREATE INDEX workspace_by_project ON public.workspace USING btree (project_id);

CREATE INDEX workspace_invitation_by_email ON public.workspace_invitation USING btree (email);

CREATE INDEX workspace_member_by_user ON public.workspace_member USING btree (user_id);

ALTER INDEX public.log_line_by_id ATTACH PARTITION public.log_line_default_id_idx;

ALTER INDEX public.log_line_by_run ATTACH PARTITION public.log_line_default_run_id_id_idx;

CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE OR TRUNCATE ON public.audit_entry FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER audit_entry_is_kept BEFORE DELETE ON public.audit_entry FOR EACH ROW WHEN ((old.at > (now() - '30 days'::interval))) EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER run_begins AFTER INSERT ON public.run REFERENCING NEW TABLE AS begun FOR EACH STATEMENT EXECUTE FUNCTION public.run_begins();

CREATE TRIGGER run_ends AFTER UPDATE ON public.run REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.run_ends();

CREATE TRIGGER run_goes_on AFTER UPDATE ON public.run FOR EACH ROW WHEN (((old.completed_at IS NOT NULL) AND (new.completed_at IS NULL))) EXECUTE FUNCTION public.run_goes_on();

ALTER TABLE ONLY public.access_token
    ADD CONSTRAINT access_token_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.block_limit
    ADD CONSTRAINT block_limit_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.browser_session
    ADD CONSTRAINT browser_session_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.device
    ADD CONSTRAINT device_node_id_fkey FOREIGN KEY (node_id) REFERENCES public.node(id);

ALTER TABLE ONLY public.grant_of_device
    ADD CONSTRAINT grant_of_device_device_id_fkey FOREIGN KEY (device_id) REFERENCES public.device(id);

ALTER TABLE ONLY public.group_policy
    ADD CONSTRAINT group_policy_group_id_fkey FOREIGN KEY (group_id) REFERENCES public.user_group(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.model_upload
    ADD CONSTRAINT model_upload_created_by_fkey FOREIGN KEY (created_by) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.model_upload
    ADD CONSTRAINT model_upload_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.model_version
    ADD CONSTRAINT model_version_created_by_fkey FOREIGN KEY (created_by) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.model_version
    ADD CONSTRAINT model_version_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.model(id);

ALTER TABLE ONLY public.model
    ADD CONSTRAINT model_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_pool_fkey FOREIGN KEY (pool) REFERENCES public.pool(name);

ALTER TABLE ONLY public.notification_config
    ADD CONSTRAINT notification_config_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.pipeline_version
    ADD CONSTRAINT pipeline_version_bundle_digest_fkey FOREIGN KEY (bundle_digest) REFERENCES public.bundle(digest);

ALTER TABLE ONLY public.pipeline_version
    ADD CONSTRAINT pipeline_version_pipeline_id_fkey FOREIGN KEY (pipeline_id) REFERENCES public.pipeline(id);

ALTER TABLE ONLY public.pipeline
    ADD CONSTRAINT pipeline_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.placement
    ADD CONSTRAINT placement_node_id_fkey FOREIGN KEY (node_id) REFERENCES public.node(id);

ALTER TABLE ONLY public.placement
    ADD CONSTRAINT placement_pool_fkey FOREIGN KEY (pool) REFERENCES public.pool(name);

ALTER TABLE ONLY public.placement_user
    ADD CONSTRAINT placement_user_holder_fkey FOREIGN KEY (holder) REFERENCES public.placement(holder) ON DELETE CASCADE;

ALTER TABLE ONLY public.plan_queue
    ADD CONSTRAINT plan_queue_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES public.plan(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.plan_queue
    ADD CONSTRAINT plan_queue_queue_id_fkey FOREIGN KEY (queue_id) REFERENCES public.queue(id);

ALTER TABLE ONLY public.plan_window
    ADD CONSTRAINT plan_window_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES public.plan(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.pool
    ADD CONSTRAINT pool_shard_fkey FOREIGN KEY (shard) REFERENCES public.shard(id);

ALTER TABLE ONLY public.project_file
    ADD CONSTRAINT project_file_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);

ALTER TABLE ONLY public.project_file_total
    ADD CONSTRAINT project_file_total_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);

ALTER TABLE ONLY public.project_member
    ADD CONSTRAINT project_member_group_id_fkey FOREIGN KEY (group_id) REFERENCES public.user_group(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.project_member
    ADD CONSTRAINT project_member_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);

ALTER TABLE ONLY public.project_member
    ADD CONSTRAINT project_member_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_owner_group_id_fkey FOREIGN KEY (owner_group_id) REFERENCES public.user_group(id);

ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_owner_user_id_fkey FOREIGN KEY (owner_user_id) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.project_plan
    ADD CONSTRAINT project_plan_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES public.plan(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.project_plan
    ADD CONSTRAINT project_plan_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);

ALTER TABLE ONLY public.project_policy
    ADD CONSTRAINT project_policy_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);

ALTER TABLE ONLY public.runtime
    ADD CONSTRAINT runtime_pool_fkey FOREIGN KEY (pool) REFERENCES public.pool(name);

ALTER TABLE ONLY public.runtime_spec
    ADD CONSTRAINT runtime_spec_queue_id_fkey FOREIGN KEY (queue_id) REFERENCES public.queue(id);

ALTER TABLE ONLY public.runtime_spec
    ADD CONSTRAINT runtime_spec_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.runtime
    ADD CONSTRAINT runtime_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.secret
    ADD CONSTRAINT secret_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);

ALTER TABLE ONLY public.secret
    ADD CONSTRAINT secret_updated_by_fkey FOREIGN KEY (updated_by) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.secret
    ADD CONSTRAINT secret_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.trigger
    ADD CONSTRAINT trigger_pipeline_id_fkey FOREIGN KEY (pipeline_id) REFERENCES public.pipeline(id);

ALTER TABLE ONLY public.trigger_token
    ADD CONSTRAINT trigger_token_trigger_id_fkey FOREIGN KEY (trigger_id) REFERENCES public.trigger(id);

ALTER TABLE ONLY public.user_group_member
    ADD CONSTRAINT user_group_member_group_id_fkey FOREIGN KEY (group_id) REFERENCES public.user_group(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_group_member
    ADD CONSTRAINT user_group_member_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.volume
    ADD CONSTRAINT volume_created_by_fkey FOREIGN KEY (created_by) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.volume
    ADD CONSTRAINT volume_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);

ALTER TABLE ONLY public.volume_state
    ADD CONSTRAINT volume_state_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES public.volume(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.workspace_invitation
    ADD CONSTRAINT workspace_invitation_invited_by_fkey FOREIGN KEY (invited_by) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.workspace_invitation
    ADD CONSTRAINT workspace_invitation_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.workspace_member
    ADD CONSTRAINT workspace_member_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.user_account(id);

ALTER TABLE ONLY public.workspace_member
    ADD CONSTRAINT workspace_member_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.workspace
    ADD CONSTRAINT workspace_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);
