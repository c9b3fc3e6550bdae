//! Finds or installs what a machine needs to run and test Orrery: PostgreSQL, Redis, Python, packages and a Kubernetes.
//!
//! Synchronous and light, because `xtask` links it. Refuses to know Orrery's schema, its services and their settings.

pub mod account;
pub mod browser;
pub mod cache;
pub mod cluster;
pub mod command;
pub mod error;
pub mod go;
pub mod kubelab;
pub mod npm;
pub mod ports;
pub mod postgres;
pub mod python;
pub mod redis;
pub mod rscript;
pub mod test_server;
pub mod wheel;

pub use cluster::{ClusterOptions, PrivatePostgres};
pub use error::{Error, Result};
pub use kubelab::{Kubelab, TestLab};
pub use postgres::Postgres;
pub use python::Python;
pub use redis::PrivateRedis;
pub use rscript::Rscript;
pub use test_server::TestServer;
