//! A cluster with schedules that come each second and clients that send every request twice.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use load_tests::{
    cluster::{Cluster, Shape, WORKSPACE},
    history::{Check, ClientEvent, ClientLog, Detail, HarnessLog, History, Promises, Report, Request, Witness, check},
    project_files::{ProjectFolder, noop},
};
use proto::v1 as pb;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_postgres::{Client, NoTls};

const PIPELINES: usize = 8;
const TRIGGERS: i32 = 16;
/// Between two requests, each of which is sent twice at once.
const REQUEST_PAUSE: Duration = Duration::from_millis(150);
/// What anything else may take that a test waits for.
const WAIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const FENCED_WRITES: &str = "fenced_writes_total";

/// See the module's page.
pub(crate) struct Play {
    pub(crate) cluster: Cluster,
    pub(crate) sql: Client,
    harness: HarnessLog,
    load: Option<Load>,
}

struct Load {
    end: Timestamp,
    seconds: i64,
    requests: JoinHandle<Result<()>>,
}

impl Play {
    pub(crate) async fn start(shape: Shape) -> Result<Self> {
        let cluster = Cluster::start_as(shape).await?;
        let folder = cluster.folder().join("load");
        let project = ProjectFolder::create(&folder)?;
        for number in 0..PIPELINES {
            project.pipeline(&pipeline(number), &[noop::<&str>("only", &[])])?;
        }
        cluster.deploy(&folder).await?;
        let (sql, connection) = tokio_postgres::connect(&cluster.database_url(), NoTls).await?;
        tokio::spawn(connection);
        Witness::install(&sql, Detail::Units).await?;
        let harness = HarnessLog::create(&cluster.history())?;
        Ok(Self { cluster, sql, harness, load: None })
    }

    /// Until so many schedulers are members that have renewed just now.
    pub(crate) async fn until_members(&self, schedulers: i64) -> Result<()> {
        let begun = Instant::now();
        let living = "SELECT count(*) FROM scheduler WHERE lease_until > clock_timestamp() + interval '2 s'";
        while self.sql.query_one(living, &[]).await?.get::<_, i64>(0) != schedulers {
            ensure!(begun.elapsed() < WAIT, "the schedulers did not come; logs: {}", self.cluster.keep_logs()?);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Begins some seconds of schedules and of requests.
    pub(crate) async fn begin(&mut self, seconds: u32) -> Result<()> {
        let now = self.now().await?;
        let from = Timestamp::from_second(now.as_second() + 2)?;
        let seconds = i64::from(seconds);
        let end = Timestamp::from_second(from.as_second() + seconds)?;
        let insert = "
            INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
            SELECT gen_random_uuid(), p.id, 'every-' || n, 'time', true, 'api', jsonb_build_object('kind', jsonb_build_object(
                'type', 'schedule', 'every', '@every 1s', 'zone', 'UTC', 'start', $1::text, 'end', $2::text),
                'catch_up', jsonb_build_object('all', jsonb_build_object('window_s', 600, 'count', 100)))
            FROM generate_series(1, $3::integer) AS n
            JOIN (SELECT id, row_number() OVER (ORDER BY name) - 1 AS place FROM pipeline) AS p ON p.place = n % $4::integer";
        let places = i32::try_from(PIPELINES)?;
        self.sql.execute(insert, &[&from.to_string(), &end.to_string(), &TRIGGERS, &places]).await?;
        let (client, runs) = (Arc::new(ClientLog::create(&self.cluster.history(), "1")?), self.cluster.runs());
        let until = Instant::now() + Duration::try_from(end.duration_since(now))?;
        let requests = tokio::spawn(async move {
            for number in 0.. {
                if Instant::now() > until {
                    break;
                }
                let twice: Vec<_> =
                    (0..2).map(|_| tokio::spawn(request(runs.clone(), Arc::clone(&client), number))).collect();
                for call in twice {
                    call.await??;
                }
                tokio::time::sleep(REQUEST_PAUSE).await;
            }
            Ok(())
        });
        self.load = Some(Load { end, seconds, requests });
        Ok(())
    }

    /// Freezes a scheduler for so long: it wakes up with times that are due and believes that they are its own.
    pub(crate) async fn freeze(&mut self, scheduler: &str, time: Duration) -> Result<()> {
        self.harness.fault("freeze", scheduler)?;
        self.cluster.service(scheduler)?.freeze()?;
        tokio::time::sleep(time).await;
        self.cluster.service(scheduler)?.thaw()?;
        self.harness.healed("freeze", scheduler)
    }

    /// When the last time is due, ends a scheduler that disturbs the others, so that they can do what is left.
    pub(crate) async fn end_when_over(&mut self, scheduler: &str) -> Result<()> {
        let left = Duration::try_from(self.load.as_ref().context("a load")?.end.duration_since(self.now().await?));
        tokio::time::sleep(left.unwrap_or_default()).await;
        self.count().await?;
        self.harness.fault("kill", scheduler)?;
        self.cluster.service(scheduler)?.kill()
    }

    /// The judgement, when everything is done, or after `patience`: without guards some runs never end.
    pub(crate) async fn finish(mut self, promises: &Promises, patience: Duration) -> Result<Report> {
        let load = self.load.take().context("a load")?;
        load.requests.await??;
        self.drain(load.end, load.seconds, patience).await?;
        self.count().await?;
        let folder = self.cluster.history();
        Witness::dump(&self.sql, &folder).await?;
        promises.write(&folder)?;
        Ok(check(&History::read(&folder)?))
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0))
    }

    /// Notes what schedulers have counted; one that has ended counts nothing any more.
    async fn count(&mut self) -> Result<()> {
        let services: Vec<(String, String)> =
            self.cluster.services().map(|(name, service)| (name.clone(), service.admin())).collect();
        for (name, admin) in services.iter().filter(|(name, _)| name.starts_with("scheduler")) {
            if let Ok(fenced) = metric(admin, FENCED_WRITES).await {
                self.harness.counted(name, FENCED_WRITES, fenced)?;
            }
        }
        Ok(())
    }

    /// Until every time has been decided at least once and every run has ended, or not.
    async fn drain(&self, end: Timestamp, seconds: i64, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        let expected = i64::from(TRIGGERS) * seconds;
        let sql = "SELECT (SELECT count(DISTINCT (trigger_id, logical_key)) FROM firing WHERE logical_key LIKE 'at:%'),
                          (SELECT count(*) FROM run WHERE completed_at IS NULL), clock_timestamp()";
        loop {
            let row = self.sql.query_one(sql, &[]).await?;
            let (decided, open, now): (i64, i64, Timestamp) = (row.get(0), row.get(1), row.get(2));
            if (decided >= expected && open == 0 && now > end) || begun.elapsed() > patience {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// What every play promises: everything is checked.
pub(crate) fn promises() -> Promises {
    Promises {
        settle_ms: 1_000,
        must_check: vec![Check::C1, Check::C2, Check::C3, Check::C7, Check::C8, Check::C9],
        ..Promises::default()
    }
}

fn pipeline(number: usize) -> String {
    format!("play_{}", number % PIPELINES)
}

/// One request, repeated with its key until it is answered, as a client has to.
async fn request(
    mut runs: pb::run_service_client::RunServiceClient<rpc::client::Channel>,
    client: Arc<ClientLog>,
    number: usize,
) -> Result<()> {
    let begun = Instant::now();
    let (pipeline, key) = (pipeline(number), format!("request-{number}"));
    while begun.elapsed() < WAIT {
        let (workspace, pipeline, key) = (WORKSPACE.to_owned(), pipeline.clone(), key.clone());
        let asked = Request::CreateRun { workspace: workspace.clone(), pipeline: pipeline.clone(), key: key.clone() };
        let asked = client.asked(asked)?;
        let request = pb::CreateRunRequest { workspace, pipeline, idempotency_key: key, ..Default::default() };
        match runs.create_run(request).await {
            Ok(answer) => {
                let run_id = Some(answer.into_inner().run.context("a run")?.id.parse()?);
                let answer = ClientEvent::Acknowledged { run_id, version: None, instead: None, started: Vec::new() };
                return client.answered(asked, answer);
            }
            Err(status) => client.answered(asked, ClientEvent::Failed { error: status.message().to_owned() })?,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// A counter of a service.
pub(crate) async fn metric(admin: &str, name: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of whole things")]
    value.map(|value| value as u64).with_context(|| format!("a metric {name} of {admin}"))
}
