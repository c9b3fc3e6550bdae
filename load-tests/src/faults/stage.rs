//! A cluster under load, to be broken: triggers that are due every second, and clients that start runs.
//!
//! The load is known beforehand down to the single logical time, so that what is missing afterwards can be named.

use super::{
    callers::{Callers, Told},
    judge,
    seen::{Seen, Verdict},
};
use crate::{
    cluster::{Cluster, Shape, WORKSPACE},
    history::{Check, Detail, Promises, Witness},
    project_files::{ProjectFolder, noop, python},
};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use proto::v1::CreateRunRequest;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Pipelines that triggers and clients start, spread over the shards.
pub(super) const PIPELINES: usize = 24;
/// The pipeline with one block of Python that takes a while.
pub(super) const SLOW: &str = "slow";
/// The pipeline with one block of Python that writes as many lines as it is told to.
pub(super) const FLOOD: &str = "flood";
/// The pipeline with one block of Python that puts out as much as it is told to.
pub(super) const WRITER: &str = "writer";
/// Clients, and about how long each waits between two calls.
const CALLERS: (u64, Duration) = (4, Duration::from_millis(250));
/// Between the making of the triggers and their first time.
const LEAD: Duration = Duration::from_secs(3);
/// How long anything that the harness itself asks for may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long shards may take to be shared evenly.
const SHARED_MAX: Duration = Duration::from_secs(60);
/// How long the rest of the work may take once everything is mended.
const DRAIN_MAX: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Every trigger of the load is due each second from its first time to its last. What it missed it catches up with.
const INSERT: &str = "
    INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
    SELECT gen_random_uuid(), p.id, $1::text || n, 'time', true, 'api', jsonb_build_object(
        'kind', jsonb_build_object('type', 'schedule', 'every', '@every 1s', 'zone', 'UTC', 'start', $2::text, 'end', $3::text),
        'catch_up', jsonb_build_object('all', jsonb_build_object('window_s', 7200, 'count', 1000)))
    FROM generate_series(1, $4::integer) AS n
    JOIN (SELECT id, row_number() OVER (ORDER BY name) - 1 AS place FROM pipeline WHERE starts_with(name, 'load_')) AS p
      ON p.place = n % $5::integer";

/// What is run, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of every die that is thrown.
    pub seed: u64,
    /// How long the load lasts, in whole seconds.
    pub seconds: u32,
    /// Triggers that are due in each of them.
    pub triggers: u32,
}

/// A load that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Times of every trigger.
    pub(super) seconds: u32,
    /// How many triggers.
    pub(super) triggers: u32,
    /// When the last time has come, about.
    pub(super) ends_at: Instant,
}

/// See the module's page.
pub(super) struct Stage {
    /// The cluster.
    pub(super) cluster: Cluster,
    /// What the row throws.
    pub(super) dice: StdRng,
    plan: Plan,
    load: Option<(Load, Callers)>,
    /// What the history is held against.
    pub(super) promises: Promises,
}

/// The name of one of the pipelines.
#[must_use]
pub(super) fn pipeline(number: usize) -> String {
    format!("load_{:02}", number % PIPELINES)
}

impl Stage {
    /// The cluster of every row: three schedulers, three executors, two web-servers, with wires and a Redis.
    #[must_use]
    pub(super) fn shape(plan: Plan) -> Shape {
        Shape {
            schedulers: 3,
            scheduler_places: 3,
            executors: 3,
            web_servers: 2,
            slots: 64,
            redis: true,
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
        for number in 0..PIPELINES {
            project.pipeline(&pipeline(number), &[noop::<&str>("only", &[])])?;
        }
        project.custom("nap", include_str!("nap.py"))?;
        project.pipeline(SLOW, &[python("nap", &[])])?;
        project.custom("flood", include_str!("flood.py"))?;
        project.pipeline(FLOOD, &[python("flood", &[])])?;
        project.custom("write", include_str!("write.py"))?;
        project.pipeline(WRITER, &[python("write", &[])])?;
        cluster.deploy(&folder).await?;
        let promises =
            Promises { must_check: vec![Check::C1, Check::C2, Check::C3, Check::C8, Check::C9], ..Promises::default() };
        let stage = Self { cluster, dice: StdRng::seed_from_u64(plan.seed), plan, load: None, promises };
        Witness::install(&stage.sql().await?, Detail::Units).await?;
        Ok(stage)
    }

    /// A session of its own with the database, past every wire.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn sql(&self) -> Result<Client> {
        let url = self.cluster.database_url();
        let connecting = tokio_postgres::connect(&url, NoTls);
        let (client, connection) = timeout(PATIENCE, connecting).await.context("the database does not answer")??;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Begins the load: triggers, and clients.
    ///
    /// # Errors
    /// When the triggers cannot be made.
    pub(super) async fn begin(&mut self) -> Result<Load> {
        let Plan { seed, seconds, triggers } = self.plan;
        let sql = self.sql().await?;
        let now: Timestamp = sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
        let from = Timestamp::from_second(now.as_second() + i64::try_from(LEAD.as_secs())? + 1)?;
        let end = Timestamp::from_second(from.as_second() + i64::from(seconds))?;
        let (count, places) = (i32::try_from(triggers)?, i32::try_from(PIPELINES)?);
        sql.execute(INSERT, &[&"every-", &from.to_string(), &end.to_string(), &count, &places]).await?;
        let lead = Duration::try_from(now.duration_until(end))?;
        let load = Load { seconds, triggers, ends_at: Instant::now() + lead };
        let history = self.cluster.history();
        let callers = Callers::start(&self.cluster.channel(), &history, CALLERS, load.ends_at, seed)?;
        self.load = Some((load, callers));
        sleep(Duration::try_from(now.duration_until(from))?).await;
        Ok(load)
    }

    /// Whether the load will last for at least so much longer.
    #[must_use]
    pub(super) fn goes_on(&self, by: Duration) -> bool {
        self.load.as_ref().is_some_and(|(load, _)| Instant::now() + by < load.ends_at)
    }

    /// A number below `below`, by the dice.
    pub(super) fn throw(&mut self, below: usize) -> usize {
        self.dice.random_range(0..below)
    }

    /// One of so many services of a kind, by the dice.
    pub(super) fn victim(&mut self, kind: &str, of: usize) -> String {
        format!("{kind}-{}", self.throw(of) + 1)
    }

    /// Services that have ended by themselves.
    pub(super) fn ended(&mut self) -> Vec<String> {
        self.cluster.services().filter_map(|(name, service)| (!service.is_running()).then(|| name.clone())).collect()
    }

    /// When the database's server was started.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn postgres_started(&self) -> Result<Timestamp> {
        Ok(self.sql().await?.query_one("SELECT pg_postmaster_start_time()", &[]).await?.get(0))
    }

    /// Lines of the database's log that hold a text.
    pub(super) fn postgres_log_lines(&self, text: &str) -> u64 {
        let log = self.cluster.postgres().map(|postgres| postgres.log_file());
        let log = log.ok().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).count() as u64
    }

    /// Starts runs of a pipeline, with these variables; answers their ids.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub(super) async fn start_runs(
        &mut self,
        pipeline: &str,
        count: usize,
        variables: &[(&str, f64)],
    ) -> Result<Vec<Uuid>> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let number = |value: f64| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(value)) };
            let fields = variables.iter().map(|(name, value)| ((*name).to_owned(), number(*value))).collect();
            let request = CreateRunRequest {
                workspace: WORKSPACE.to_owned(),
                pipeline: pipeline.to_owned(),
                idempotency_key: format!("row-{}", self.dice.random::<u64>()),
                variables: Some(prost_types::Struct { fields }),
                ..CreateRunRequest::default()
            };
            let run = self.cluster.runs().create_run(request).await?.into_inner().run.context("a run")?;
            ids.push(run.id.parse()?);
        }
        Ok(ids)
    }

    /// How these runs stand: status and how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn statuses(&self, runs: &[Uuid]) -> Result<BTreeMap<String, i64>> {
        let sql = "SELECT status, count(*) FROM run WHERE id = ANY ($1) GROUP BY 1";
        let rows = self.sql().await?.query(sql, &[&runs]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Waits until these runs have ended.
    ///
    /// # Errors
    /// When they have not by then.
    pub(super) async fn until_ended(&self, runs: &[Uuid], limit: Duration) -> Result<BTreeMap<String, i64>> {
        let begun = Instant::now();
        loop {
            let statuses = self.statuses(runs).await?;
            if !statuses.contains_key("running") && !statuses.contains_key("initial") {
                return Ok(statuses);
            }
            ensure!(begun.elapsed() < limit, "after {} s runs stand as {statuses:?}", limit.as_secs());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs a pipeline a few times, so that code and environments are ready everywhere.
    ///
    /// # Errors
    /// When they do not end.
    pub(super) async fn warm(&mut self, pipeline: &str, variables: &[(&str, f64)]) -> Result<()> {
        let first = self.start_runs(pipeline, 6, variables).await?;
        self.until_ended(&first, DRAIN_MAX).await.map(drop)
    }

    /// The memory of the service that has most, in MiB.
    pub(super) fn memory_mib(&mut self) -> f64 {
        let resident = |pid: u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
        };
        self.cluster.services().map(|(_, service)| resident(service.pid())).fold(0.0, f64::max)
    }

    /// Runs the slow pipeline once, so that environments are ready, then starts so many that each take so long, and waits
    /// until all of them run.
    ///
    /// # Errors
    /// When they do not start.
    pub(super) async fn warm_and_start_slow(&mut self, count: usize, seconds: f64) -> Result<Vec<Uuid>> {
        self.warm(SLOW, &[("seconds", 0.5)]).await?;
        let runs = self.start_runs(SLOW, count, &[("seconds", seconds)]).await?;
        let begun = Instant::now();
        let sql = self.sql().await?;
        loop {
            let query = "SELECT count(*) FROM block_run WHERE run_id = ANY ($1) AND status = 'running'";
            if sql.query_one(query, &[&runs]).await?.get::<_, i64>(0) == i64::try_from(count)? {
                return Ok(runs);
            }
            ensure!(begun.elapsed() < PATIENCE, "slow runs do not start");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The executor that runs most of these.
    ///
    /// # Errors
    /// When none does.
    pub(super) async fn holder(&self, runs: &[Uuid]) -> Result<String> {
        let query = "SELECT e.name FROM block_run b JOIN executor e ON e.id = b.executor_id
                      WHERE b.run_id = ANY ($1) AND b.status = 'running' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1";
        let row = self.sql().await?.query_opt(query, &[&runs]).await?;
        Ok(row.context("an executor that runs something")?.get(0))
    }

    /// Attempts of these runs that were given up with their executor.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn lost_attempts(&self, runs: &[Uuid]) -> Result<u64> {
        let query = "SELECT count(*) FROM attempt WHERE run_id = ANY ($1) AND outcome = 'lost'";
        Ok(u64::try_from(self.sql().await?.query_one(query, &[&runs]).await?.get::<_, i64>(0))?)
    }

    /// Waits until some of them were; answers how many.
    ///
    /// # Errors
    /// When none was by then.
    pub(super) async fn until_lost(&self, runs: &[Uuid], limit: Duration) -> Result<u64> {
        let begun = Instant::now();
        loop {
            let lost = self.lost_attempts(runs).await?;
            if lost > 0 {
                return Ok(lost);
            }
            ensure!(begun.elapsed() < limit, "no attempt was given to others in {} s", limit.as_secs());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Why blocks of these runs failed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn errors_of(&self, runs: &[Uuid]) -> Result<Vec<String>> {
        let query = "SELECT DISTINCT error::text FROM block_run WHERE run_id = ANY ($1) AND status = 'failed'";
        Ok(self.sql().await?.query(query, &[&runs]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Starts PostgreSQL again; answers how long it took to accept.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) async fn start_postgres(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        tokio::task::block_in_place(|| self.cluster.start_postgres())?;
        // One that started itself again may still be recovering.
        while let Err(refused) = self.sql().await {
            ensure!(begun.elapsed() < SHARED_MAX, "PostgreSQL does not accept: {refused:#}");
            sleep(LOOK_AGAIN).await;
        }
        Ok(begun.elapsed())
    }

    /// Has the database go on to the next file of its log, as far as it can.
    pub(super) async fn use_up_log(&self) {
        let Ok(sql) = self.sql().await else { return };
        // It is to fail. A file that nothing was written to would not be left.
        let _ = sql.batch_execute("SELECT pg_logical_emit_message(false, 'faults', 'x'); SELECT pg_switch_wal()").await;
    }

    /// Starts again what has ended by itself, as a supervisor does; answers which those were.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(super) async fn revive(&mut self) -> Result<Vec<String>> {
        let ended = self.ended();
        for name in &ended {
            self.cluster.service(name)?.restart()?;
        }
        Ok(ended)
    }

    /// Changes of shards' owners since the cluster began, beyond the first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn takings(&self) -> Result<u64> {
        let sql = self.sql().await?;
        let row = sql.query_one("SELECT coalesce(sum(greatest(epoch - 1, 0)), 0)::bigint FROM shard", &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    }

    /// Lets time pass: between `from` and `to`, by the dice.
    pub(super) async fn pass(&mut self, from: Duration, to: Duration) {
        let share: f64 = self.dice.random();
        sleep(from + to.saturating_sub(from).mul_f64(share)).await;
    }

    /// Until so many schedulers have all shards, in even parts; answers how long that took.
    ///
    /// # Errors
    /// When it takes longer than a minute.
    pub(super) async fn until_shared(&self, schedulers: usize) -> Result<Duration> {
        let begun = Instant::now();
        let sql = self.sql().await?;
        let even = 256 / i64::try_from(schedulers)?;
        loop {
            let rows = sql
                .query(
                    "SELECT count(s.id) FROM scheduler m LEFT JOIN shard s ON s.owner = m.id
                      WHERE m.lease_until > clock_timestamp() GROUP BY m.id ORDER BY 1",
                    &[],
                )
                .await?;
            let shares: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            let is_even = shares.iter().all(|share| (share - even).abs() * 5 <= even);
            if shares.len() == schedulers && shares.iter().sum::<i64>() == 256 && is_even {
                return Ok(begun.elapsed());
            }
            ensure!(begun.elapsed() < SHARED_MAX, "the shares are {shares:?}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// A counter or gauge of a service, summed over its labels; 0 when it does not say, and when the service is away.
    pub(super) async fn metric(&mut self, service: &str, name: &str) -> f64 {
        let Ok(address) = self.cluster.service(service).map(|service| service.admin()) else { return 0.0 };
        let page = timeout(Duration::from_secs(2), page(&address)).await;
        let Ok(Ok(page)) = page else { return 0.0 };
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        page.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Batches of a scheduler that did not count: their epoch was old, or the server had ended a session that was frozen.
    pub(super) async fn refusals(&mut self, scheduler: &str) -> f64 {
        self.metric(scheduler, "fenced_writes_total").await + self.metric(scheduler, "scheduler_reloads_total").await
    }

    /// The same, summed over all services of a kind, such as `scheduler`.
    pub(super) async fn metric_of_all(&mut self, kind: &str, name: &str) -> f64 {
        let names: Vec<String> = self.cluster.services().map(|(name, _)| name.clone()).collect();
        let mut sum = 0.0;
        for service in names.iter().filter(|service| service.starts_with(kind)) {
            sum += self.metric(service, name).await;
        }
        sum
    }

    /// As [`Stage::finish`]; no logical time may be decided later than this, in seconds.
    ///
    /// # Errors
    /// As [`Stage::finish`].
    pub(super) async fn finish_within(self, seen: Seen, late_max_s: f64) -> Result<Seen> {
        self.conclude(seen, Some(late_max_s), async |_| Ok(Vec::new())).await
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
        self.conclude(seen, Some(late_max_s), judge).await
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
        late_max_s: Option<f64>,
        judge: impl AsyncFnOnce(&Client) -> Result<Vec<String>>,
    ) -> Result<Seen> {
        if let Ok(wires) = self.cluster.wires() {
            wires.heal();
        }
        self.revive().await?;
        let (load, callers) = self.load.take().context("a load; see begin")?;
        tokio::time::sleep_until(load.ends_at).await;
        let told = callers.told().await?;
        let sql = self.sql().await?;
        let drained = judge::until_drained(&sql, &load, DRAIN_MAX).await?;
        seen.tell("until all work was done, after the load", drained.took.as_secs_f64(), "s");
        seen.broken.extend(drained.open);
        self.judge(&sql, &told, &mut seen).await?;
        seen.broken.extend(judge(&sql).await?);
        for worst in seen.measured.iter_mut().filter(|measured| measured.name == judge::WORST) {
            worst.at_most = late_max_s;
        }
        if seen.verdict(false) != Verdict::Held {
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
        judge::leftovers(sql, seen).await?;
        judge::history(sql, &self.cluster.history(), &self.promises, seen).await
    }
}

async fn page(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}
