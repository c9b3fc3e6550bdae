//! The scheduler: decides what runs where and when, and writes it down.
//!
//! It writes runtime state (firings, runs, block runs, attempts, executors, log lines) and nothing else; definitions
//! belong to the web-server, user code to executors.

pub mod access_keys;
pub mod app;
pub mod background;
pub mod calls;
pub mod changes;
pub mod clock;
pub mod commands;
pub mod engine;
pub mod load;
pub mod log_retention;
pub mod logs;
pub mod loops;
pub mod metrics;
pub mod notes;
mod notification_test;
pub mod orders;
pub mod owners;
pub mod peers;
pub mod placer;
pub mod pools;
pub mod reads;
pub mod retention;
pub mod runtimes;
pub mod session;
pub mod settings;
pub mod shares;
mod values;
pub mod wire;

pub use app::{App, Given};
