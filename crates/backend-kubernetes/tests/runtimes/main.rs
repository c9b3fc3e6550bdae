//! Lives of runtimes on a real control plane.
//!
//! Each test has a namespace and a pool of its own, and devices that no other test uses. Node `shared-0`: 0 and 1 belong to
//! `a_life_from_its_order_to_nothing`. `shared-1`: 0 to `troubles_have_codes`, 2 and 3 to strangers. `whole-0` and
//! `partitioned-0` belong to `pieces`, but GPUs 5 and 6 of `whole-0` to `mps`, and 0 to 3 to `troubles` of the command line. The node of `paper` is
//! its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the report of a test")]

mod lab;
mod lives;
mod mps;
mod paper;
mod pieces;
mod troubles;
mod usage;
mod volumes;
