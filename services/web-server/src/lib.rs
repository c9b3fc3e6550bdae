//! The web-server: the public API as gRPC, gRPC-Web and JSON, and the UI, on one port.
//!
//! It authenticates, validates, writes definitions, sends commands to schedulers and reads everything else. Refuses to
//! write runtime state, and to execute anything.

mod app;
mod authorisation;
mod block_pages;
mod block_runs;
mod browser;
mod bundles;
mod changed;
mod changes;
mod commands;
mod consolidation;
mod core;
mod deploy;
mod disturbed;
mod encode;
mod fault;
mod gate;
mod given;
mod gpu_statistics;
mod grpc;
mod idempotent;
mod identity;
mod listener;
mod loops;
mod mage;
mod metrics;
mod models;
mod new_runs;
mod notification_seals;
mod oidc_sign_in;
mod outputs;
mod paging;
mod people;
mod plans;
mod protocol;
mod proxy;
mod quota;
mod repeated;
mod rest;
mod router;
mod runtimes;
mod scaler;
mod seen;
mod services;
pub mod settings;
mod shared_quotas;
mod sign_in;
mod standing;
mod storage_classes;
mod sums;
mod surface;
mod targets;
mod transcode;
mod triggers;
mod ui;
mod watch;

pub use app::{App, BuildError};
pub use authorisation::TableError;
pub use given::Given;
pub use router::routes;
pub use surface::Route;
