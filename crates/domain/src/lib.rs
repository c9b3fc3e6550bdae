//! What Orrery schedules, as plain values: pipelines, runs and the rules that move them.
//!
//! Refuses to know async, I/O, clocks (functions take `now`), SQL and the wire.

pub mod error;
pub mod graph;
pub mod id;
pub mod pipeline;
pub mod retry;
pub mod role;
pub mod run;
pub mod unit;

pub use error::ErrorKind;
