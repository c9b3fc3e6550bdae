//! Finds or installs what a machine needs to run and test Orrery: a PostgreSQL server and a Python.
//!
//! Synchronous and light, because `xtask` links it. Refuses to know Orrery's schema, its services and their settings.

pub mod account;
pub mod cache;
pub mod cluster;
pub mod command;
pub mod error;
pub mod postgres;
pub mod python;
pub mod test_server;

pub use cluster::{ClusterOptions, PrivatePostgres};
pub use error::{Error, Result};
pub use postgres::Postgres;
pub use python::Python;
pub use test_server::TestServer;
