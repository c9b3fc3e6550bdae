//! Who gets which devices: placers on a real Postgres, behind real gRPC, with executors whose fleet is declared.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod blocks;
mod executor;
mod flow;
mod gangs;
mod hints;
mod nominations;
mod notices;
mod races;
mod reapers;
mod restarts;
mod seen;
mod shared_quotas;
mod terms;
mod volumes;
mod world;
