//! The executor: runs attempts on one backend, and is the only service that touches user code.
//!
//! It never talks to Postgres. It holds one session with some scheduler; what it runs is known to both sides, so that
//! either may vanish and come back without anything being lost or counted twice.

pub mod app;
pub mod attempt;
pub mod attempts;
pub mod bundles;
pub mod core;
pub mod data_dir;
pub mod job;
pub mod journal;
pub mod kubernetes;
mod leftovers;
pub mod link;
pub mod logs;
pub mod metrics;
pub mod noop;
pub mod one_shot;
pub mod outputs;
mod plain;
pub mod pool;
pub mod pre_start;
pub mod process;
pub mod reads;
pub mod remote;
pub mod removals;
pub mod runner;
pub mod runtimes;
pub mod settings;
mod signs;
pub mod views;

pub use app::App;
