//! The rows of the matrix, in their order. What each does is in the file of what it breaks.

mod clocks;
mod definitions;
mod devices;
mod disks;
mod executors;
mod messages;
mod network;
mod schedulers;
mod stores;

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
    /// The part of what was done before that is still done while it is broken; `None` where nothing can be.
    pub goes_on: Option<f64>,
    /// Seconds of load that it needs in a full run, where that is more than other rows get.
    pub least_s: u32,
    pub(super) run: fn(Plan) -> Running,
}

/// A row under way.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<Seen>>>>;

macro_rules! rows {
    (@least) => { 0 };
    (@least $seconds:literal) => { $seconds };
    ($($number:literal, $run:path, $loaded:literal, $goes_on:expr, $fault:literal, $promise:literal
        $(, at least $seconds:literal)?;)*) => {
        /// Every row.
        pub const ROWS: &[Row] = &[$(Row {
            number: $number,
            fault: $fault,
            promise: $promise,
            is_loaded: $loaded,
            goes_on: $goes_on,
            least_s: rows!(@least $($seconds)?),
            run: |plan| Box::pin($run(plan)),
        }),*];
    };
}

rows! {
    "1", schedulers::killed, true, Some(0.5), "a scheduler is killed every eight seconds, one of three at a time",
        "nothing lost or doubled; worst lateness 6 s";
    "1b", schedulers::killed_without_redis, true, Some(0.5), "the same, in a cluster without Redis",
        "nothing lost or doubled; worst lateness 6 s";
    "2", schedulers::frozen, true, Some(0.5), "a scheduler is frozen for longer than its lease, once for half a minute, and wakes",
        "nothing lost or doubled; what it writes when it wakes is refused; worst lateness 6 s", at least 80;
    "2b", schedulers::frozen_without_redis, true, Some(0.5), "the same, in a cluster without Redis",
        "nothing lost or doubled; what it writes when it wakes is refused; worst lateness 6 s", at least 80;
    "3", schedulers::lied_to, true, Some(0.5), "every scheduler believes that it owns everything",
        "nothing lost or doubled";
    "4", stores::redis_lost, true, Some(0.8), "Redis is emptied each second, killed, and frozen",
        "nothing lost or doubled; worst lateness 1 s; schedulers say so within 2 s";
    "5", stores::postgres_restarted, true, None, "PostgreSQL is stopped and killed, and started again",
        "nothing lost or doubled; firing again 5 s after it accepts; no service ends";
    "6", stores::sessions_ended, true, Some(0.8), "ten sessions with PostgreSQL are ended each second",
        "nothing lost or doubled; no service ends; worst lateness 6 s";
    "7", stores::failed_over, true, None, "PostgreSQL is killed and a synchronous standby takes over",
        "nothing lost or doubled; firing again 5 s after it accepts, worst lateness 10 s";
    "7b", stores::failed_over_behind, true, None, "PostgreSQL is killed and a standby takes over that is seconds behind",
        "what that had not got is decided again, and nothing older; firing again 5 s after it accepts";
    "8", network::scheduler_without_database, true, Some(0.5), "a scheduler is cut off from PostgreSQL: both ways, one way, half open",
        "nothing lost or doubled; worst lateness 6 s";
    "8a", network::scheduler_without_database_or_redis, true, Some(0.5), "the same, in a cluster without Redis",
        "nothing lost or doubled; worst lateness 6 s";
    "8b", network::executor_alone, true, Some(0.5), "an executor is cut off from every scheduler",
        "nothing lost or doubled; its work is given to others, and within 15 s it ends what it still runs of it", at least 60;
    "8c", network::scheduler_alone, true, Some(0.5), "a scheduler is cut off from Redis, from its peers, from everybody else",
        "nothing lost or doubled; worst lateness 6 s";
    "8d", network::one_way, true, Some(0.5), "a scheduler and Redis, another and PostgreSQL, an executor and everybody, in one direction only",
        "nothing lost or doubled; worst lateness 6 s";
    "9", network::bad_weather, true, Some(0.1), "every wire is 20 to 60 ms slow and loses 5 %",
        "nothing lost or doubled; 99 of 100 at most 5 s late";
    "9b", network::bad_weather_that_tears, true, Some(0.1), "the same, and every second a connection breaks",
        "nothing lost or doubled; 99 of 100 at most 10 s late";
    "9c", network::storm, true, None, "every wire is 100 to 500 ms slow and loses 30 %",
        "nothing lost or doubled";
    "9d", network::far_away, true, None, "every wire is 100 to 500 ms slow and loses 5 %",
        "nothing lost or doubled; 99 of 100 at most 5 s late";
    "10", clocks::wrong, true, Some(0.8), "clocks are five minutes off, jump, run twice as fast",
        "nothing lost or doubled; who is off says so within 30 s";
    "11", needs_no_cluster, false, None, "clocks that jump with the seasons, in every time zone",
        "each local time comes as it is written";
    "12", disks::full, true, Some(0.8), "the disks of an executor and of a scheduler's log are full",
        "blocks fail with that reason, nothing else happens; with space it goes on";
    "12b", stores::disk_full, true, None, "the disk of PostgreSQL's log is full",
        "nothing lost or doubled; firing again 10 s after there is space";
    "13", executors::killed, true, Some(0.5), "an executor is killed in the middle of blocks, again and again",
        "its work is with others within 15 s, and completes once", at least 100;
    "14", executors::frozen, true, Some(0.5), "an executor is frozen for a minute while its blocks end, and wakes",
        "its results of what others have by then are refused", at least 90;
    "14b", devices::asleep, true, Some(0.8), "an executor with devices is frozen while it is told to end what runs on them, and wakes",
        "nobody gets a device of which it has not said that it is free";
    "15", messages::repeated, true, Some(0.8), "every call to a scheduler comes twice, calls overtake each other, and executors are told twice",
        "nothing lost or doubled; the same as if each came once";
    "16", messages::read_slowly, true, Some(0.8), "readers of logs and states take 1 KiB a second while blocks flood the log",
        "nothing lost or doubled; worst lateness 6 s; no service takes more than 256 MiB";
    "17", stores::transaction_held, true, Some(0.8), "a transaction is held all the time",
        "nothing lost or doubled; worst lateness 6 s; runs take at most twice as long";
    "18", definitions::herd, false, None, "thousands of triggers are due in the same second",
        "all fired within 2 s";
    "19", schedulers::rolled, true, Some(0.5), "every service is drained and started again, one by one",
        "nothing lost or doubled; worst lateness 6 s";
    "20", definitions::edited, true, Some(0.8), "triggers are edited, paused and removed while they fire",
        "no firing of a version after a newer one was acknowledged";
    "21", schedulers::scaled, true, Some(0.5), "from one scheduler to five and back, again and again, and executors move on every five seconds",
        "nothing lost or doubled; shares are even within 10 s", at least 60;
    "22", devices::raced, true, Some(0.3), "many ask for few devices, strangers take parts of them, and schedulers are killed",
        "no device and no quota is given away twice, gangs start whole, and all capacity comes back";
}

/// Row 11.
async fn needs_no_cluster(_: Plan) -> Result<Seen> {
    Ok(Seen::not_here(
        "needs no cluster: `cargo test -p domain --test triggers zones` holds every zone's transitions against an evaluator \
         of its own",
    ))
}
