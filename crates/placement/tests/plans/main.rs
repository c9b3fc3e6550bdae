//! What the planner promises, seen from outside: tables for every reason, and properties over random clusters.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checks;
mod consolidation;
mod gangs;
mod order;
mod preemption;
mod properties;
mod refusals;
mod reservations;
mod simulation;
mod world;
