//! Real clusters, and the checker's judgement on what they did.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, where a panic is the report")]

mod devices;
mod guards;
mod ledger;
mod mutants;
mod play;
mod upgrade;

use tokio::sync::Mutex;

/// One cluster at a time: two cores are enough for one.
static ALONE: Mutex<()> = Mutex::const_new(());
