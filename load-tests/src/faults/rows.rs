//! The rows of the matrix, in their order. What each does is in the file of what it breaks.

mod leases;
mod schedulers;

use super::{Plan, Seen};
use anyhow::Result;
use std::{future::Future, pin::Pin};

/// One way to break a cluster, and what is promised meanwhile.
pub struct Row {
    /// As people name it.
    pub number: &'static str,
    /// What is broken.
    pub fault: &'static str,
    /// What holds nevertheless.
    pub promise: &'static str,
    /// Whether the usual load is on it.
    pub is_loaded: bool,
    pub(super) run: fn(Plan) -> Running,
}

/// A row under way.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<Seen>>>>;

macro_rules! rows {
    ($($number:literal, $run:path, $loaded:literal, $fault:literal, $promise:literal;)*) => {
        /// Every row.
        pub const ROWS: &[Row] = &[$(Row {
            number: $number,
            fault: $fault,
            promise: $promise,
            is_loaded: $loaded,
            run: |plan| Box::pin($run(plan)),
        }),*];
    };
}

rows! {
    "1", schedulers::killed, true, "a scheduler is killed every few seconds, one of three",
        "nothing lost or doubled; worst lateness 6 s";
    "4", leases::redis_emptied, true, "Redis is emptied every second",
        "nothing lost or doubled; lateness 1 s more at most";
}
