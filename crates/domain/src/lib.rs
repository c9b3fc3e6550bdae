//! What Orrery schedules, as plain values: pipelines, runs and the rules that move them.
//!
//! Refuses to know async, I/O, clocks (functions take `now`), SQL and the wire.

pub mod admission;
pub mod backfill;
pub mod device;
pub mod error;
pub mod event;
pub mod executor_type;
pub mod graph;
pub mod id;
pub mod instant;
pub mod limits;
pub mod permits;
pub mod pipeline;
pub mod product;
pub mod queue;
pub mod quota;
pub mod references;
pub mod retry;
pub mod role;
pub mod run;
pub mod runtime;
pub mod trigger;
pub mod unit;
pub mod volume;
pub mod window;

pub use error::ErrorKind;
