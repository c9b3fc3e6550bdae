//! A cluster of real processes to try things on: as many schedulers, executors and web-servers as wanted, a database of
//! its own, and every process at hand to be killed, frozen, drained and started again.
//!
//! Refuses to judge: scenarios measure it, tests and the fault matrix check it.

pub mod cluster;
pub mod history;
pub mod project_files;
