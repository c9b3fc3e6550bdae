//! One module per service of `orrery.v1`. Handlers decode, call one function, encode.

pub(crate) mod deployments;
pub(crate) mod executors;
pub(crate) mod logs;
pub(crate) mod outputs;
pub(crate) mod pipelines;
pub(crate) mod runs;
pub(crate) mod workspaces;
