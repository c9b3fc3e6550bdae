//! The real thing: `orrery up` with its Postgres, services and Python, driven through the command line as a person
//! would. Broken definitions, broken code and killed processes each give a clear error, and the cluster goes on.
//!
//! Every test has a workspace of its own; those that kill services share a cluster of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic, and so may what it is built from")]

mod answer;
mod buckets;
mod calls;
mod cluster;
mod control;
mod definitions;
mod exits;
mod faults;
mod flow;
mod http;
mod https;
mod kubernetes_jobs;
mod lab;
mod limits;
mod logs;
mod outputs;
mod overlaps;
mod processes;
mod project;
mod rubbish;
mod runtimes;
mod secrets;
mod traces;
mod troubles;
mod up;
mod variables;
mod volumes;
mod wait;
mod walk;
mod workspace;
