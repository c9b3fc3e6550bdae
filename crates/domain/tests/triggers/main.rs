//! Triggers from the outside: when they come, and what is decided.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod crons;
mod keys;
mod properties;
mod steps;
mod zones;
