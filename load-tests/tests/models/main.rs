//! Models of what makes Orrery safe, searched through for a counterexample in every order in which things can happen. Each
//! comes as it is built and in versions that lack one guard: those must have a counterexample, or the model proves nothing.
//!
//! | model | guards | lacks a guard |
//! |---|---|---|
//! | [`firing`] | the unique key, the epoch | a repeated request starts two runs; a former owner fires what its successor fired |
//! | [`takeover`] | the epoch, the lease of an attempt | two results of one unit count |
//! | [`ahead`] | the order of ends, the lease, an executor that gives back and forgets what is behind a failure | a block counts before the one before it, or behind another try of it; one begins behind a failure |
//! | [`device`] | only a process that is gone frees its device | two processes have one device |
//! | [`lock`] | a release compares who holds the lock | a late release frees another one's lock |
//!
//! The lock is no guard of the others: they are searched with one that says yes to everybody at any time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test reports by panics and prints")]

mod ahead;
mod device;
mod firing;
mod lock;
mod takeover;

use stateright::{Checker, Model};
use std::{fmt::Debug, hash::Hash};

/// The most states of one model; beyond it the search is too slow for every day.
const STATES_MAX: usize = 400_000;

/// Searches all of it: no promise is broken, and what has to be possible is.
fn holds<M>(model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync,
    M::Action: Debug + Clone + PartialEq,
{
    let checker = model.checker().target_state_count(STATES_MAX).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.unique_state_count() < STATES_MAX, "too many states to search all of them");
    checker.assert_properties();
}

/// Searches until this promise is broken; answers what led to it.
fn breaks<M>(model: M, promise: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync,
    M::Action: Debug + Clone + PartialEq,
{
    let checker = model.checker().target_state_count(STATES_MAX).spawn_bfs().join();
    let path = checker.discovery(promise);
    let path = path.unwrap_or_else(|| panic!("{promise:?} holds without the guard: the model proves nothing"));
    println!("{promise:?} is broken by {:?}", path.into_actions());
}
