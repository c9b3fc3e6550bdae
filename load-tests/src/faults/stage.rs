//! A cluster under load, to be broken. What the load is, is told in `load.rs`.

mod database;
mod load;
mod services;
mod work;

pub(super) use load::{CHAINS, Load, PIPELINES, chain, pipeline};

use super::{
    callers::{Callers, Told},
    judge, pace,
    seen::{Seen, Verdict},
};
use crate::{
    cluster::{Cluster, Shape},
    history::{Check, Detail, Promises, Witness},
    project_files::{ProjectFolder, noop, python},
};
use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// The pipeline with a block of Python that takes a while. A quick no-op before it earns the run a lease ahead, that of the no-op
/// behind it: when an executor is lost in the middle of a nap, something is leased ahead.
pub(super) const SLOW: &str = "slow";
/// The block of it that takes so long.
const NAP: &str = "nap";
/// The pipeline with one block of Python that writes as many lines as it is told to.
pub(super) const FLOOD: &str = "flood";
/// The pipeline with one block of Python that puts out as much as it is told to.
pub(super) const WRITER: &str = "writer";
/// How long anything that the harness itself asks for may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long shards may take to be shared evenly.
const SHARED_MAX: Duration = Duration::from_secs(60);
/// How long the rest of the work may take once everything is mended.
const DRAIN_MAX: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is run, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of every die that is thrown.
    pub seed: u64,
    /// How long the load lasts, in whole seconds.
    pub seconds: u32,
    /// Triggers that are due in each of them.
    pub triggers: u32,
    /// Whether the cluster has a Redis; without one its leases are rows of PostgreSQL.
    pub redis: bool,
    /// The part of what was done before that must still be done while something is broken; `None` where nothing can be.
    pub goes_on: Option<f64>,
    /// Whether a bar that is missed is a failure, whose traces are kept.
    pub bars_count: bool,
}

/// See the module's page.
pub(super) struct Stage {
    /// The cluster.
    pub(super) cluster: Cluster,
    /// What the row throws.
    pub(super) dice: StdRng,
    plan: Plan,
    load: Option<(Load, Callers)>,
    /// Changes of shards' owners before the load began.
    taken_before: u64,
    /// What the history is held against.
    pub(super) promises: Promises,
    /// Executors may be lost so often that a block counts as one that kills them.
    pub(super) loses_often: bool,
    /// Files that the services read.
    kept: Vec<tempfile::NamedTempFile>,
}

impl Stage {
    /// The cluster of every row: three schedulers, three executors, two web-servers, with wires.
    #[must_use]
    pub(super) fn shape(plan: Plan) -> Shape {
        Shape {
            schedulers: 3,
            scheduler_places: 3,
            executors: 3,
            web_servers: 2,
            slots: 64,
            redis: plan.redis,
            wires: Some(plan.seed),
            ..Shape::default()
        }
    }

    /// Starts a cluster and waits until its shards are shared.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) async fn open(plan: Plan, shape: Shape) -> Result<Self> {
        let schedulers = shape.schedulers;
        let stage = Self::unshared(plan, shape).await?;
        stage.until_shared(schedulers).await?;
        Ok(stage)
    }

    /// As [`Stage::open`], for shards that are never shared.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) async fn unshared(plan: Plan, shape: Shape) -> Result<Self> {
        let cluster = Cluster::start_as(shape).await?;
        let folder = cluster.folder().join("load");
        let project = ProjectFolder::create(&folder)?;
        load::put_pipelines(&project)?;
        project.custom(NAP, include_str!("nap.py"))?;
        project.pipeline(SLOW, &[noop::<&str>("quick", &[]), python(NAP, &["quick"]), noop("behind", &[NAP])])?;
        project.custom("flood", include_str!("flood.py"))?;
        project.pipeline(FLOOD, &[python("flood", &[])])?;
        project.custom("write", include_str!("write.py"))?;
        project.pipeline(WRITER, &[python("write", &[])])?;
        cluster.deploy(&folder).await?;
        let promises =
            Promises { must_check: vec![Check::C1, Check::C2, Check::C3, Check::C8, Check::C9], ..Promises::default() };
        let stage = Self {
            cluster,
            dice: StdRng::seed_from_u64(plan.seed),
            plan,
            load: None,
            taken_before: 0,
            promises,
            loses_often: false,
            kept: Vec::new(),
        };
        Witness::install(&stage.sql().await?, Detail::Units).await?;
        Ok(stage)
    }

    /// Keeps a file for as long as the cluster.
    pub(super) fn keep(&mut self, file: tempfile::NamedTempFile) {
        self.kept.push(file);
    }

    /// Whether the load will last for at least so much longer.
    #[must_use]
    pub(super) fn goes_on(&self, by: Duration) -> bool {
        self.load.as_ref().is_some_and(|(load, _)| Instant::now() + by < load.broken_until)
    }

    /// A number below `below`, by the dice.
    pub(super) fn throw(&mut self, below: usize) -> usize {
        self.dice.random_range(0..below)
    }

    /// One of so many services of a kind, by the dice.
    pub(super) fn victim(&mut self, kind: &str, of: usize) -> String {
        format!("{kind}-{}", self.throw(of) + 1)
    }

    /// Lets time pass: between `from` and `to`, by the dice.
    pub(super) async fn pass(&mut self, from: Duration, to: Duration) {
        let share: f64 = self.dice.random();
        sleep(from + to.saturating_sub(from).mul_f64(share)).await;
    }

    /// As [`Stage::finish`]; no logical time may be decided later than this, in seconds.
    ///
    /// # Errors
    /// As [`Stage::finish`].
    pub(super) async fn finish_within(self, seen: Seen, late_max_s: f64) -> Result<Seen> {
        self.finish_with(seen, late_max_s, async |_| Ok(Vec::new())).await
    }

    /// As [`Stage::finish`]; of 100 logical times 99 may not be decided later than this, in seconds.
    ///
    /// # Errors
    /// As [`Stage::finish`].
    pub(super) async fn finish_mostly_within(self, seen: Seen, late_max_s: f64) -> Result<Seen> {
        self.conclude(seen, Some((judge::P99, late_max_s)), async |_| Ok(Vec::new())).await
    }

    /// As [`Stage::finish_within`], with a judgement of one's own before the cluster goes.
    ///
    /// # Errors
    /// As [`Stage::finish`].
    pub(super) async fn finish_with(
        self,
        seen: Seen,
        late_max_s: f64,
        judge: impl AsyncFnOnce(&Client) -> Result<Vec<String>>,
    ) -> Result<Seen> {
        self.conclude(seen, Some((judge::WORST, late_max_s)), judge).await
    }

    /// Mends the wires, waits until all the work is done, and judges it. Callers have their answers by then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn finish(self, seen: Seen) -> Result<Seen> {
        self.conclude(seen, None, async |_| Ok(Vec::new())).await
    }

    async fn conclude(
        mut self,
        mut seen: Seen,
        late_max: Option<(&str, f64)>,
        judge: impl AsyncFnOnce(&Client) -> Result<Vec<String>>,
    ) -> Result<Seen> {
        if let Ok(wires) = self.cluster.wires() {
            wires.heal();
        }
        self.revive().await?;
        let (load, callers) = self.load.take().context("a load; see begin")?;
        let mended_s = load.began.elapsed().as_secs_f64();
        tokio::time::sleep_until(load.ends_at).await;
        let told = callers.told().await?;
        let sql = self.sql().await?;
        let drained = judge::until_drained(&sql, &load, DRAIN_MAX).await?;
        seen.tell("until all work was done, after the load", drained.took.as_secs_f64(), "s");
        seen.broken.extend(drained.open);
        let ahead = self.metric_of_all("scheduler", "scheduler_leases_ahead_total").await;
        seen.tell("leases ahead, by schedulers that live", ahead, "");
        self.judge(&sql, &told, &mut seen).await?;
        if let Some(pace) = pace::of(&sql, &load, mended_s).await? {
            pace.hold(self.plan.goes_on, &mut seen);
        }
        seen.broken.extend(judge(&sql).await?);
        if let Some((name, late_max_s)) = late_max {
            let of_late = seen.measured.iter_mut().filter(|measured| measured.name == name);
            of_late.for_each(|late| late.at_most = Some(late_max_s));
        }
        if seen.verdict(self.plan.bars_count) != Verdict::Held {
            seen.logs = Some(self.cluster.keep_logs()?);
        }
        Ok(seen)
    }

    async fn judge(&mut self, sql: &Client, told: &Told, seen: &mut Seen) -> Result<()> {
        seen.acknowledged += told.took.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        seen.tell("calls that were repeated", told.repeated as f64, "");
        seen.must(told.given_up == 0, || format!("{} calls were never answered", told.given_up));
        let slowest = told.took.iter().max().copied().unwrap_or_default();
        seen.tell("slowest call, repetitions included", slowest.as_secs_f64(), "s");
        judge::lateness(sql, seen).await?;
        judge::leftovers(sql, self.loses_often, seen).await?;
        judge::sources(sql, seen).await?;
        judge::history(sql, &self.cluster.history(), &self.promises, seen).await
    }
}
