//! Postgres: one pool, one module per aggregate, one `.sql` file per statement.
//!
//! Refuses to know the wire, and to decide anything: it reads, and performs acts that name the state they expect.

mod address;
mod error;
mod pool;
mod query;

pub mod access_keys;
pub mod audit;
pub mod backfills;
pub mod credentials;
pub mod deployments;
pub mod executor_views;
pub mod executors;
pub mod firing_views;
pub mod fleet_views;
pub mod forget;
pub mod gpu_statistics;
pub mod gpu_usage;
pub mod groups;
pub mod health;
pub mod idempotency;
pub mod journal;
pub mod leases;
pub mod ledger;
pub mod limits;
pub mod log_chunks;
pub mod log_grams;
pub mod log_search;
pub mod log_views;
pub mod logs;
pub mod members;
pub mod migrations;
pub mod models;
pub mod notifications;
pub mod outbox;
pub mod outputs;
pub mod permits;
pub mod pipelines;
pub mod placement_terms;
pub mod plans;
pub mod policies;
pub mod products;
pub mod project_files;
pub mod projects;
pub mod queues;
pub mod quotas;
pub mod run_ends;
pub mod run_views;
pub mod runs;
pub mod runtime_routes;
pub mod runtime_specs;
pub mod runtime_views;
pub mod schedulers;
pub mod secrets;
pub mod shards;
pub mod statistics;
pub mod targets;
pub mod triggers;
pub mod users;
pub mod volumes;
pub mod workspaces;

/// A connection of the pool.
pub use deadpool_postgres::Client;
/// A transaction of the pool's clients, for callers that compose several statements into one act.
pub use deadpool_postgres::Transaction;
pub use error::Error;
pub use pool::{LOG_STATEMENT_TIMEOUT, Patience, Store};
