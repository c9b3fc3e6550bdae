//! What tests stand on: a real Postgres with a database per test, real object stores with a bucket per test, a real
//! Kubernetes with a namespace per test, a real provider of sign-ins, and waiting for a level instead of sleeping.
//!
//! A dev-dependency only. Refuses to know the schema: whoever needs tables hands over a way to migrate.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "linked into tests only, where a panic is the report")]

pub mod browser;
pub mod database;
pub mod identity;
pub mod kubernetes;
pub mod object_store;
pub mod skip;
pub mod wait;
pub mod ways;

pub use database::Database;
pub use identity::IdentityProvider;
pub use object_store::{Google, S3};
/// A Redis of its own for one test; it ends with the value.
pub use provision::PrivateRedis;
/// Where a server that must be told its port can listen.
pub use provision::ports;
pub use skip::skipped;
pub use wait::wait_for;
pub use ways::{Loss, Ways};
