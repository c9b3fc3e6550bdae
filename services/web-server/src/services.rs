//! One module per service of `orrery.v1`. Handlers decode, call one function, encode.

pub(crate) mod audit;
pub(crate) mod backfills;
pub(crate) mod deployments;
pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod executors;
pub(crate) mod groups;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod members;
pub(crate) mod monitor;
pub(crate) mod notifications;
pub(crate) mod outputs;
pub(crate) mod pipelines;
pub(crate) mod plans;
pub(crate) mod policies;
pub(crate) mod projects;
pub(crate) mod queues;
pub(crate) mod runs;
pub(crate) mod runtimes;
pub(crate) mod secrets;
pub(crate) mod sign_in;
pub(crate) mod tokens;
pub(crate) mod triggers;
pub(crate) mod users;
pub(crate) mod workspaces;
