//! One module per service of `orrery.v1`. Handlers decode, call one function, encode.

pub(crate) mod deployments;
pub(crate) mod events;
pub(crate) mod executors;
pub(crate) mod logs;
pub(crate) mod monitor;
pub(crate) mod notifications;
pub(crate) mod outputs;
pub(crate) mod pipelines;
pub(crate) mod runs;
pub(crate) mod triggers;
pub(crate) mod workspaces;
