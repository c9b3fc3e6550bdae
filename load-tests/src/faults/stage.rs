//! A cluster under load, to be broken: triggers that are due every second, and clients that start runs.
//!
//! The load is known beforehand down to the single logical time, so that what is missing afterwards can be named.

use super::{
    callers::{Callers, Told},
    judge,
    seen::Seen,
};
use crate::{
    cluster::{Cluster, Shape},
    project_files::{ProjectFolder, noop, python},
};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

/// Pipelines that triggers and clients start, spread over the shards.
pub(super) const PIPELINES: usize = 24;
/// The pipeline with one block of Python that takes a while.
pub(super) const SLOW: &str = "slow";
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
    /// The first time of every trigger.
    pub(super) from: Timestamp,
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
        let cluster = Cluster::start_as(shape).await?;
        let folder = cluster.folder().join("load");
        let project = ProjectFolder::create(&folder)?;
        for number in 0..PIPELINES {
            project.pipeline(&pipeline(number), &[noop::<&str>("only", &[])])?;
        }
        project.custom("nap", include_str!("nap.py"))?;
        project.pipeline(SLOW, &[python("nap", &[])])?;
        cluster.deploy(&folder).await?;
        let stage = Self { cluster, dice: StdRng::seed_from_u64(plan.seed), plan, load: None };
        stage.until_shared(schedulers).await?;
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
        let load = Load { from, seconds, triggers, ends_at: Instant::now() + lead };
        let callers = Callers::start(&self.cluster.channel(), 4, Duration::from_millis(250), load.ends_at, seed);
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
        let mut seen = self.finish(seen).await?;
        for worst in seen.measured.iter_mut().filter(|measured| measured.name == judge::WORST) {
            worst.at_most = Some(late_max_s);
        }
        Ok(seen)
    }

    /// Mends the wires, waits until all the work is done, and judges it. Callers have their answers by then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn finish(mut self, mut seen: Seen) -> Result<Seen> {
        if let Ok(wires) = self.cluster.wires() {
            wires.heal();
        }
        let (load, callers) = self.load.take().context("a load; see begin")?;
        tokio::time::sleep_until(load.ends_at).await;
        let told = callers.told().await;
        let sql = self.sql().await?;
        let drained = judge::until_drained(&sql, &load, DRAIN_MAX).await?;
        seen.tell("until all work was done, after the load", drained.took.as_secs_f64(), "s");
        seen.broken.extend(drained.open);
        self.judge(&sql, &load, &told, &mut seen).await?;
        if !seen.broken.is_empty() {
            seen.broken.push(format!("the services' logs are in {}", self.cluster.keep_logs()?));
        }
        Ok(seen)
    }

    async fn judge(&mut self, sql: &Client, load: &Load, told: &Told, seen: &mut Seen) -> Result<()> {
        seen.acknowledged += told.acknowledged.len() as u64;
        seen.tell("calls that were repeated", told.repeated as f64, "");
        let slowest = told.acknowledged.iter().map(|call| call.took).max().unwrap_or_default();
        seen.tell("slowest call, repetitions included", slowest.as_secs_f64(), "s");
        judge::firings(sql, load, seen).await?;
        judge::calls(sql, told, seen).await?;
        judge::runs(sql, seen).await
    }
}

async fn page(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}
