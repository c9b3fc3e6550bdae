//! A cluster of real processes to try things on: as many schedulers, executors and web-servers as wanted, a database of
//! its own, every process at hand to be killed, frozen, drained and started again, and a wire between any two of them; and
//! the fault matrix, which does all of that and judges what became of the work.
#![allow(clippy::print_stdout, reason = "the matrix reports on stdout")]

pub mod cluster;
pub mod declared;
pub mod faults;
pub mod history;
pub mod project_files;
pub mod record;
pub mod repeater;
pub mod rewriter;
pub mod runtimes;
pub mod usage;
pub mod wire;
