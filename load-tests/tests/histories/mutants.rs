//! Clusters without one of their guards: the checker of histories must find what that leads to. The same cluster with all
//! guards is right, though its schedulers all believe that everything is theirs.
//!
//! The guards are taken away in the test's own database and on the way to it; the programs are those that are shipped. Devices
//! that come back too early are in `devices.rs`, and epochs that nothing here gets to in `guards.rs`. One guard cannot be shown so:
//! no lock guards anything here, not even one whose release is a bare DEL. Whoever loses it so only has somebody else ask for
//! shards of which PostgreSQL says that their owner lives. What a bare DEL does to a lock is in `tests/models/lock.rs` and in the
//! conformance suite of `lease`; what it could do to a cluster is less than what the lock that lies to everybody does here.

use crate::{
    ALONE,
    play::{Play, promises},
};
use anyhow::{Result, ensure};
use load_tests::{
    cluster::Shape,
    history::{Check, Promises, Report, Standing},
    rewriter::{Rewriter, Rule},
};
use std::time::Duration;

const SECONDS: u32 = 8;
/// Each of the schedulers in turn is frozen for longer than the other one needs to take everything, and wakes again.
const FREEZES: usize = 5;
const FROZEN: Duration = Duration::from_millis(1_600);
const AWAKE: Duration = Duration::from_millis(300);
const SCHEDULERS: [&str; 2] = ["scheduler-1", "scheduler-2"];
/// For the rest of the work, which without guards may never be done.
const PATIENCE: Duration = Duration::from_secs(30);
/// Every shard was taken from somebody, at least so often.
const TAKINGS_MIN: u64 = 512;

/// The statement that writes firings knows no key.
const NO_KEY: [Rule; 1] = [Rule { from: "ON CONFLICT (trigger_id, logical_key) DO NOTHING", to: "" }];
/// No statement looks at the epoch that its writer believes in.
const NO_EPOCH: [Rule; 4] = [
    Rule { from: " AND s.epoch = o.epoch", to: "" },
    Rule { from: " AND s.epoch = k.epoch", to: "" },
    Rule { from: " AND s.epoch = d.epoch", to: "" },
    Rule { from: " AND epoch = $2::bigint FOR SHARE", to: " AND $2::bigint IS NOT NULL FOR SHARE" },
];

/// What a cluster did whose schedulers all own everything, with these changes of what they send to the database, and with
/// or without the key of firings there.
async fn played(rules: &[Rule], has_key: bool, promises: &Promises) -> Result<Report> {
    let settings = vec![("ORRERY_SCHEDULER_LEASES".to_owned(), "liar".to_owned())];
    let count = SCHEDULERS.len();
    let shape = Shape {
        schedulers: count,
        scheduler_places: count,
        web_servers: 2,
        slots: 16,
        wires: Some(1),
        settings,
        ..Shape::default()
    };
    let mut play = Play::start(shape).await?;
    for name in SCHEDULERS {
        play.cluster.service(name)?.kill()?;
    }
    if !has_key {
        play.sql.batch_execute("ALTER TABLE firing DROP CONSTRAINT firing_pkey").await?;
    }
    let rewriter = Rewriter::before(play.cluster.database_address()?, rules).await?;
    for name in SCHEDULERS {
        play.cluster.wires()?.between(name, "postgres").for_each(|wire| wire.lead_to(rewriter.address()));
        play.cluster.service(name)?.restart()?;
    }
    play.until_members(i64::try_from(count)?).await?;
    play.begin(SECONDS).await?;
    for round in 0..FREEZES {
        play.freeze(SCHEDULERS[round % count], FROZEN).await?;
        tokio::time::sleep(AWAKE).await;
    }
    // Two that take everything from each other each second can keep each other from their work on a slow machine.
    play.end_when_over(SCHEDULERS[1]).await?;
    let report = play.finish(promises, PATIENCE).await?;
    ensure!(rewriter.idle_rules() == 0, "a guard is still there: one of the rules has changed no statement");
    println!("{report}");
    Ok(report)
}

/// The lie has to have led to something.
fn biting() -> Promises {
    Promises { takings_min: TAKINGS_MIN, ..promises() }
}

/// With guards, something has to have been refused.
fn refusing() -> Promises {
    Promises { fenced_writes_min: 1, ..biting() }
}

/// What a check found, which has to have found something.
fn words(report: &Report, check: Check) -> String {
    let verdict = report.of(check);
    assert_eq!(verdict.standing, Standing::Broken, "{check:?} does not see that a guard is gone: {report}");
    verdict.violations.iter().map(|violation| violation.what.clone()).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_guards_a_cluster_whose_lock_lies_is_right() -> Result<()> {
    let _alone = ALONE.lock().await;
    let report = played(&[], true, &refusing()).await?;
    assert!(report.is_held(), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_unique_key_a_request_that_is_sent_twice_runs_twice() -> Result<()> {
    let _alone = ALONE.lock().await;
    let report = played(&NO_KEY, false, &biting()).await?;
    assert!(words(&report, Check::C1).contains("key:request-"), "{report}");
    assert!(words(&report, Check::C2).contains("was decided 2 times"), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_epoch_former_owners_write() -> Result<()> {
    let _alone = ALONE.lock().await;
    let report = played(&NO_EPOCH, true, &biting()).await?;
    assert!(words(&report, Check::C9).contains("over"), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_either_the_same_time_fires_twice() -> Result<()> {
    let _alone = ALONE.lock().await;
    let report = played(&[&NO_KEY[..], &NO_EPOCH[..]].concat(), false, &biting()).await?;
    let found = words(&report, Check::C1);
    assert!(found.contains("at:") && found.contains("was decided twice"), "{report}");
    Ok(())
}
