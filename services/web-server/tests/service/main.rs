//! The whole server in process, over real sockets: a real Postgres behind it, and a scheduler that is a fake of the
//! command service, which writes the rows that a scheduler would.
#![allow(clippy::unwrap_used, missing_docs, reason = "a panic is the report of a test")]

mod administration;
mod backfills;
mod binary;
mod calls;
mod cluster;
mod deploy;
mod disturbed;
mod ended;
mod events;
mod fleet;
mod gangs;
mod gpu_usage;
mod http;
mod images;
mod models;
mod nul;
mod oidc;
mod operations;
mod outputs;
mod people;
mod protocols;
mod proxy;
mod routes;
mod runs;
mod runtimes;
mod scheduler;
mod secrets;
mod security;
mod seen;
mod shared_quotas;
mod standing;
mod tenants;
mod tokens;
mod triggers;
mod volumes;
