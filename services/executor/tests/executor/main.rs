//! A real executor with real Python processes, against a scheduler that does what a test says.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod ahead;
mod attempts;
mod binary;
mod ends;
mod idle;
mod journal;
mod noop;
mod outputs;
mod packages;
mod pods;
mod refusals;
mod remote;
mod runtimes;
mod scheduler;
mod sessions;
mod world;
