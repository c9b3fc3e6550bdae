//! What starts when: limits, backfills and triggers, by the engine on a real Postgres, with executors that are channels.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod admission;
mod backends;
mod backfills;
mod calls;
mod cluster;
mod firing;
mod lateness;
mod limits;
mod loading;
mod overlaps;
mod peers;
mod products;
mod retries;
mod sessions;
mod strides;
mod times;
