//! The settings that several services have, each described once: a name means the same in every table that lists it. A
//! service picks the rows that it has. Refuses to know what a service does with a value.

use super::{Key, Kind};

/// Settings whose shared variable begins as a service's own do: `ORRERY_SCHEDULER_URLS` is `scheduler_urls` of those who have it,
/// and not a scheduler's unknown `urls`. A test holds this against the tables of all services.
pub(super) const BEGIN_AS_A_SERVICE: [&str; 2] = ["EXECUTOR_LOST_AFTER", "SCHEDULER_URLS"];

/// Where PostgreSQL is, when that holds no password.
pub const DATABASE_URL: Key = Key::new(
    "database_url",
    Kind::Uri,
    "",
    "PostgreSQL, as in `postgres://user@host/database?sslmode=require`; with `sslmode` (`require` or stricter) by TLS and with the \
     server's certificate verified, by `sslrootcert` (a file) or what the system trusts. Use `database_url_file` when it holds a password.",
);
/// Where PostgreSQL is, when that does.
pub const DATABASE_URL_FILE: Key = Key::new(
    "database_url_file",
    Kind::SecretFile,
    "",
    "File with the PostgreSQL connection URL; wins over `database_url`.",
);
/// How much of PostgreSQL a process takes; how much it needs differs between services.
pub const DATABASE_CONNECTIONS: Key =
    Key::new("database_connections", Kind::Integer, "8", "The most connections to PostgreSQL.");
/// What services prove themselves by.
pub const CLUSTER_TOKEN_FILE: Key = Key::new(
    "cluster_token_file",
    Kind::SecretFile,
    "",
    "Token by which the services of a cluster know each other; a scheduler beyond loopback needs it.",
);
/// What secrets of people are sealed with.
pub const SECRET_KEYS_FILE: Key = Key::new(
    "secret_keys_file",
    Kind::SecretFile,
    "",
    "Keys that seal and open secrets, one `<id>:<64 hex digits>` a line, the one for new values first, the same for \
     web-servers and schedulers; without it no secrets are kept and none can be read.",
);
/// Where schedulers are.
pub const SCHEDULER_URLS: Key =
    Key::new("scheduler_urls", Kind::List, "http://127.0.0.1:7071", "Every scheduler; any of them serves.");
/// Where code is.
pub const BLOBS_URL: Key = Key::new(
    "blobs_url",
    Kind::Text,
    "",
    "Where bundles are stored: `file:///folder` that the whole cluster sees, `s3://bucket/prefix` or `gs://bucket/prefix`. \
     A web-server needs it; an executor without it looks in its own `data_dir`.",
);
/// Where outputs are.
pub const OUTPUTS_URL: Key = Key::new(
    "outputs_url",
    Kind::Text,
    "",
    "Where executors keep outputs of attempts: `file:///folder` that they share, `s3://bucket/prefix` or \
     `gs://bucket/prefix`. An executor without it uses `outputs_dir`; a web-server without it shows no outputs.",
);
/// Where outputs of projects with a place of their own may be.
pub const PROJECT_OUTPUTS: Key = Key::new(
    "project_outputs",
    Kind::List,
    "",
    "Beginnings of the addresses that projects may give (`remote_variables_dir`) and that are opened with this process's own \
     credentials, such as `s3://lake/`; others need keys in the project's `io_config.yaml`, which only executors use, \
     also for a web-server that is asked for a preview or a file.",
);
/// Where people are.
pub const PUBLIC_URL: Key = Key::new(
    "public_url",
    Kind::Uri,
    "",
    "Where people reach the web-server, such as `https://orrery.example`: links in notifications begin with it, and who \
     comes to an application first is sent there.",
);
