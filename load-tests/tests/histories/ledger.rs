//! The ledger of devices in real clusters without its guards, one at a time: the checker, or the audit of row 22, must find
//! what that leads to; and with one that is left, nothing comes of it.
//!
//! What no device may be given twice by is no number of a version: its row is locked and its sum counted in the transaction
//! that gives it away, and the table checks the sum. A planner that has forgotten who has what is what both stand against.
//! Executors obey without a look.

use crate::{ALONE, play::metric};
use anyhow::{Context, Result, ensure};
use load_tests::{
    cluster::Shape,
    declared::{Declared, Shape as Nodes},
    history::{Check, Detail, History, Promises, Report, Standing, Witness, check},
    rewriter::{Rewriter, Rule},
    runtimes::{Caller, GANG, Setup, WORLD, audit, is_empty},
};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

const SCHEDULER: &str = "scheduler-1";
/// Workspaces of each pool that ask for a quarter of a GPU, and for a whole one.
const QUARTER: usize = 0;
const WHOLE: usize = 3;
const WHOLE_MILLI: i64 = 1_000;
const EACH: usize = 5;
const LINGER: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A gang has started whole by then, or has not.
const GANG_SLACK_MS: u32 = 100;
/// What decisions wait for at their commit.
const GATE: i64 = 22;

/// Whoever takes a pool over does not learn who has its devices.
const FORGET: Rule = Rule {
    from: "WHERE p.pool = $1::text ORDER BY g.holder, g.device_id",
    to: "WHERE p.pool = $1::text AND false ORDER BY g.holder",
};
/// The transaction that gives devices away counts nothing that is given already.
const NO_COUNT: Rule = Rule {
    from: "SELECT id, memory_bytes, used_milli, used_memory, used_slots FROM device",
    to: "SELECT id, memory_bytes, 0 AS used_milli, 0::bigint AS used_memory, 0::bigint AS used_slots FROM device",
};
/// It finds no quota.
const NO_QUOTA: Rule =
    Rule { from: "SELECT y.project_id, y.gpu_milli,", to: "SELECT y.project_id, NULL::bigint AS gpu_milli," };
/// Of several devices one is written.
const SPLIT: Rule = Rule {
    from: "SELECT * FROM jsonb_to_recordset($1::jsonb)\n        AS r (device_id uuid",
    to: "SELECT DISTINCT ON (r.holder) * FROM jsonb_to_recordset($1::jsonb) AS r (device_id uuid",
};
/// The check of the table of devices.
const CHECK_SUMS: &str = "device_is_never_promised_twice";

struct Play {
    setup: Setup,
    workspaces: Vec<(&'static str, Uuid)>,
    fleets: Vec<Declared>,
    rewriter: Option<Rewriter>,
}

impl Play {
    async fn start(pools: &[&str], gpus: usize, quota: Option<i64>) -> Result<Self> {
        let setup = Setup::with(Shape { wires: Some(1), ..Setup::shape(1) }).await?;
        Witness::install(&setup.sql, Detail::Owners).await?;
        let workspaces = WORLD.fill(&setup.sql, EACH, quota).await?;
        let fleet = |pool: &&str| {
            let nodes = Nodes { pool: (*pool).to_owned(), linger: LINGER, is_blind: true, gpus, ..Nodes::default() };
            let journal = setup.cluster.history().join(format!("executor-declared-{pool}.jsonl"));
            Declared::start(nodes, setup.cluster.schedulers()?, &journal)
        };
        let fleets = pools.iter().map(fleet).collect::<Result<_>>()?;
        Ok(Self { setup, workspaces, fleets, rewriter: None })
    }

    /// The scheduler dies, and what the next one sends to the database is changed so.
    async fn die(&mut self, rules: &[Rule]) -> Result<()> {
        self.hold_rules()?;
        let cluster = &mut self.setup.cluster;
        let rewriter = Rewriter::before(cluster.database_address()?, rules).await?;
        cluster.service(SCHEDULER)?.kill()?;
        cluster.wires()?.between(SCHEDULER, "postgres").for_each(|wire| wire.lead_to(rewriter.address()));
        cluster.service(SCHEDULER)?.restart()?;
        self.rewriter = Some(rewriter);
        Ok(())
    }

    fn caller(&self, pool: &str, at: usize) -> Result<(Caller, Uuid)> {
        let mut of_pool = self.workspaces.iter().filter(|(of, _)| *of == pool);
        Ok((Caller::new(&self.setup.cluster, pool, 0)?, of_pool.nth(at).context("a workspace")?.1))
    }

    /// Starts one, by whoever has the pool by then.
    async fn ask(&self, pool: &str, at: usize) -> Result<()> {
        let (caller, workspace) = self.caller(pool, at)?;
        let begun = Instant::now();
        while let Err(error) = caller.start(workspace).await {
            ensure!(begun.elapsed() < PATIENCE, "a start is not taken: {error:#}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Until so many runtimes were started.
    async fn until_started(&self, count: u64) -> Result<()> {
        until(&format!("{count} runtimes start"), async || Ok(self.started() >= count)).await
    }

    fn started(&self) -> u64 {
        self.fleets.iter().map(Declared::started).sum()
    }

    /// How often the ledger has refused a decision since the scheduler has started.
    async fn refused(&mut self) -> Result<u64> {
        metric(&self.setup.cluster.service(SCHEDULER)?.admin(), "placement_conflicts_total").await
    }

    fn hold_rules(&self) -> Result<()> {
        let idle = self.rewriter.as_ref().map_or(0, Rewriter::idle_rules);
        ensure!(idle == 0, "a guard is still there: {idle} rules have changed no statement");
        Ok(())
    }

    /// Ends all runtimes.
    async fn empty(&self) -> Result<()> {
        until("all runtimes have ended", async || {
            for (pool, workspace) in &self.workspaces {
                // What has ended cannot be stopped again.
                let _ = Caller::new(&self.setup.cluster, pool, 0)?.stop(*workspace).await;
            }
            Ok(is_empty(&self.setup.sql).await? == 0)
        })
        .await
    }

    /// Ends everything, and judges.
    async fn finish(self) -> Result<Report> {
        self.empty().await?;
        self.hold_rules()?;
        let folder = self.setup.cluster.history();
        for fleet in self.fleets {
            fleet.close().await?;
        }
        Witness::dump(&self.setup.sql, &folder).await?;
        Promises { must_check: vec![Check::C4], gang_slack_ms: GANG_SLACK_MS, ..Promises::default() }.write(&folder)?;
        let report = check(&History::read(&folder)?);
        println!("{report}");
        Ok(report)
    }
}

/// Looks again and again.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so().await? {
        ensure!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Statements that wait for somebody's lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

async fn waiting(sql: &Client) -> Result<i64> {
    Ok(sql.query_one(WAITING, &[]).await?.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_count_and_check_a_planner_that_forgets_gives_a_device_twice() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut play = Play::start(&["red"], 1, None).await?;
    let definition = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1";
    let definition: String = play.setup.sql.query_one(definition, &[&CHECK_SUMS]).await?.get(0);
    let unchecked = format!("ALTER TABLE device DROP CONSTRAINT {CHECK_SUMS}");
    let checked = format!("ALTER TABLE device ADD CONSTRAINT {CHECK_SUMS} {definition}");
    play.ask("red", QUARTER).await?;
    play.until_started(1).await?;

    play.setup.sql.batch_execute(&unchecked).await?;
    play.die(&[FORGET]).await?;
    play.ask("red", WHOLE).await?;
    let begun = Instant::now();
    while play.refused().await.unwrap_or_default() == 0 {
        ensure!(begun.elapsed() < PATIENCE, "the count refuses nothing");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_eq!((play.started(), audit(&play.setup.sql).await?), (1, 0));

    play.setup.sql.batch_execute(&checked).await?;
    play.die(&[FORGET, NO_COUNT]).await?;
    let begun = Instant::now();
    while !play.setup.cluster.service(SCHEDULER)?.log().contains(CHECK_SUMS) {
        ensure!(begun.elapsed() < PATIENCE, "the check refuses nothing");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_eq!((play.started(), audit(&play.setup.sql).await?), (1, 0));

    play.setup.sql.batch_execute(&unchecked).await?;
    play.until_started(2).await?;
    assert!(audit(&play.setup.sql).await? > 0, "the audit does not see a device that is given away twice");
    let report = play.finish().await?;
    assert_eq!(report.of(Check::C4).standing, Standing::Broken, "{report}");
    Ok(())
}

/// Three pools decide about the same quota before any of them has written.
async fn race_for_quota(play: &Play) -> Result<()> {
    let (mut other, connection) = tokio_postgres::connect(&play.setup.cluster.database_url(), NoTls).await?;
    tokio::spawn(connection);
    let race = async {
        let held = other.transaction().await?;
        let lock = "INSERT INTO project_usage (project_id) SELECT project_id FROM project_policy
                    ON CONFLICT (project_id) DO UPDATE SET runtimes = project_usage.runtimes";
        held.execute(lock, &[]).await?;
        until("three pools have decided", async || Ok(waiting(&play.setup.sql).await? >= 3)).await?;
        Ok(held.commit().await?)
    };
    let [red, green, blue] = WORLD.pools;
    tokio::try_join!(race, play.ask(red, WHOLE), play.ask(green, WHOLE), play.ask(blue, WHOLE))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_quota_in_the_transaction_pools_exceed_it_together() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut play = Play::start(&WORLD.pools, 1, Some(WHOLE_MILLI)).await?;
    race_for_quota(&play).await?;
    assert!(play.refused().await? >= 2, "two of three decisions were to lose");
    assert_eq!(audit(&play.setup.sql).await?, 0);
    play.until_started(1).await?;
    play.empty().await?;
    let before = play.started();

    play.die(&[NO_QUOTA]).await?;
    race_for_quota(&play).await?;
    play.until_started(before + 3).await?;
    assert!(audit(&play.setup.sql).await? > 0, "the audit does not see a quota that is exceeded");
    play.finish().await?;
    Ok(())
}

/// Starts a gang, whose scheduler dies between the commit of its place and the word to its executor: the next one, with these
/// rules, reads in rows what it has.
async fn start_gang_by_rows(play: &mut Play, rules: &[Rule]) -> Result<()> {
    let (mut other, connection) = tokio_postgres::connect(&play.setup.cluster.database_url(), NoTls).await?;
    tokio::spawn(connection);
    let gate = other.transaction().await?;
    gate.execute("SELECT pg_advisory_xact_lock($1)", &[&GATE]).await?;
    let started = play.started();
    tokio::select! {
        asked = play.ask("red", GANG) => ensure!(asked.is_err(), "a start is answered before it is committed"),
        is_there = until("a decision is at its commit", async || Ok(waiting(&play.setup.sql).await? > 0)) => is_there?,
    }
    play.die(rules).await?;
    ensure!(play.started() == started, "the executor was told before the commit");
    gate.commit().await?;
    play.until_started(started + 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_of_which_a_part_is_committed_starts_in_part() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut play = Play::start(&["red"], 2, None).await?;
    let gate = format!(
        "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON grant_of_device DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION at_commit()"
    );
    play.setup.sql.batch_execute(&gate).await?;
    start_gang_by_rows(&mut play, &[SPLIT]).await?;
    play.empty().await?;
    start_gang_by_rows(&mut play, &[]).await?;
    // A history that ends sooner says nothing of a member that has not started: it may have been about to.
    tokio::time::sleep(2 * Duration::from_millis(GANG_SLACK_MS.into())).await;
    let report = play.finish().await?;
    let found = report.of(Check::C5);
    let what: Vec<&str> = found.violations.iter().map(|violation| violation.what.as_str()).collect();
    assert_eq!((found.standing, what), (Standing::Broken, vec!["1 of its 2 members started"]), "{report}");
    Ok(())
}
