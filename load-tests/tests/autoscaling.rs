//! Scaling as KEDA and its HPA do it: over gRPC, from what schedulers say, while work goes on. Nothing is lost, nothing runs
//! twice, and who is asked to end does so in time.

use anyhow::{Context, Result, ensure};
use load_tests::{
    cluster::{Cluster, Shape, WORKSPACE},
    history::{self, Check, Detail, History, Promises, Witness},
    project_files::{ProjectFolder, python},
};
use proto::{
    externalscaler::{GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient},
    v1 as pb,
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};
use tokio_postgres::{Client, NoTls};
use tonic::{Streaming, transport::Channel};

/// Attempts at once on one executor.
const SLOTS: u32 = 4;
const EXECUTORS_MAX: usize = 3;
const SCHEDULERS_MAX: usize = 2;
/// How busy one scheduler may be, in thousandths: so little that the naps are too much for it, and what it is when nobody says.
const BUSY_PERMILLE: f64 = 1.0;
const BUSY_PERMILLE_USUAL: f64 = 600.0;
/// Blocks that are asked for at once, and how long each takes.
const NAPS: usize = 48;
const NAP_S: f64 = 1.5;
const WAIT: Duration = Duration::from_secs(90);
/// Until KEDA is told that somebody is needed: the aggregate's second, and the scheduler's own.
const WAKE_MAX: Duration = Duration::from_secs(4);
/// After the deadline of a drain, until the process is gone.
const STOP_MAX: Duration = Duration::from_secs(2);

/// One cluster at a time: what takes how long is measured here.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What KEDA knows of the cluster.
struct Keda {
    client: ExternalScalerClient<Channel>,
    object: ScaledObjectRef,
    /// More its HPA never starts.
    most: usize,
}

impl Keda {
    async fn of_executors(address: &str) -> Result<Self> {
        Self::connect(address, "executors", &[("slots", SLOTS.to_string())], NAPS).await
    }

    async fn of_schedulers(address: &str, further: &[(&str, String)]) -> Result<Self> {
        Self::connect(address, "schedulers", further, SCHEDULERS_MAX).await
    }

    async fn connect(address: &str, target: &str, further: &[(&str, String)], most: usize) -> Result<Self> {
        let client = ExternalScalerClient::connect(format!("http://{address}")).await?;
        let metadata = further.iter().cloned().chain([("target", target.to_owned())]);
        let object = ScaledObjectRef {
            name: target.to_owned(),
            namespace: "orrery".to_owned(),
            scaler_metadata: metadata.map(|(key, value)| (key.to_owned(), value)).collect(),
        };
        Ok(Self { client, object, most })
    }

    /// How much each replica should have.
    async fn target_size(&mut self) -> Result<f64> {
        let specs = self.client.get_metric_spec(self.object.clone()).await?.into_inner().metric_specs;
        Ok(specs.first().context("a metric")?.target_size_float)
    }

    /// As many as the HPA would want, of a metric that is an average by replica; none while the object is not active.
    async fn desired(&mut self) -> Result<usize> {
        let spec = self.client.get_metric_spec(self.object.clone()).await?.into_inner().metric_specs.remove(0);
        let request =
            GetMetricsRequest { scaled_object_ref: Some(self.object.clone()), metric_name: spec.metric_name.clone() };
        let value = self.client.get_metrics(request).await?.into_inner().metric_values.remove(0);
        ensure!(value.metric_name == spec.metric_name, "asked for {}, got {}", spec.metric_name, value.metric_name);
        if !self.is_active().await? {
            return Ok(0);
        }
        let replicas = (value.metric_value_float / spec.target_size_float).ceil();
        Ok((0..self.most).find(|count| *count as f64 >= replicas).unwrap_or(self.most))
    }

    async fn is_active(&mut self) -> Result<bool> {
        Ok(self.client.is_active(self.object.clone()).await?.into_inner().result)
    }

    /// Until it wants more, which is told from an aggregate of each second.
    async fn until_more_than(&mut self, replicas: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let desired = self.desired().await?;
            if desired > replicas {
                return Ok(());
            }
            ensure!(begun.elapsed() < WAKE_MAX, "{desired} {} are wanted for {NAPS} blocks", self.object.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until it wants nobody.
    async fn until_idle(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.desired().await? > 0 {
            ensure!(begun.elapsed() < WAKE_MAX, "nothing is to do, and somebody is asked for");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn watch(&mut self) -> Result<Streaming<proto::externalscaler::IsActiveResponse>> {
        Ok(self.client.stream_is_active(self.object.clone()).await?.into_inner())
    }
}

struct Stage {
    cluster: Cluster,
    sql: Client,
    scaler: String,
}

impl Stage {
    async fn open(own: &[(&'static str, &str, &str)]) -> Result<Self> {
        let scaler = format!("127.0.0.1:{}", provision::ports::free()?);
        let mut own_settings: Vec<_> =
            own.iter().map(|(of, key, value)| (*of, (*key).to_owned(), (*value).to_owned())).collect();
        own_settings.push(("web-server-1", "ORRERY_WEB_SERVER_SCALER_LISTEN".to_owned(), scaler.clone()));
        let shape = Shape { scheduler_places: 2, slots: SLOTS, own_settings, ..Shape::default() };
        let cluster = Cluster::start_as(shape).await?;
        let folder = cluster.folder().join("load");
        let project = ProjectFolder::create(&folder)?;
        project.custom("nap", include_str!("../src/faults/nap.py"))?;
        project.pipeline("nap", &[python("nap", &[])])?;
        cluster.deploy(&folder).await?;
        let (sql, connection) = tokio_postgres::connect(&cluster.database_url(), NoTls).await?;
        tokio::spawn(connection);
        Witness::install(&sql, Detail::Units).await?;
        let stage = Self { cluster, sql, scaler };
        stage.start_naps(1, 0.1).await?;
        stage.until_open(0).await?;
        Ok(stage)
    }

    async fn start_naps(&self, count: usize, seconds: f64) -> Result<()> {
        let number = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(seconds)) };
        for _ in 0..count {
            let request = pb::CreateRunRequest {
                workspace: WORKSPACE.to_owned(),
                pipeline: "nap".to_owned(),
                variables: Some(prost_types::Struct { fields: [("seconds".to_owned(), number.clone())].into() }),
                ..pb::CreateRunRequest::default()
            };
            self.cluster.runs().create_run(request).await?;
        }
        Ok(())
    }

    async fn count(&self, what: &str) -> Result<i64> {
        Ok(self.sql.query_one(what, &[]).await?.get(0))
    }

    /// Until at most so many runs have not ended.
    async fn until_open(&self, most: i64) -> Result<()> {
        self.until("SELECT count(*) FROM run WHERE completed_at IS NULL", |open| open <= most).await
    }

    async fn until(&self, what: &str, is: impl Fn(i64) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is(self.count(what).await?) {
            ensure!(begun.elapsed() < WAIT, "after {} s still {} for: {what}", WAIT.as_secs(), self.count(what).await?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What a scheduler says of itself to Prometheus.
    async fn metrics(&mut self, scheduler: &str) -> Result<String> {
        let address = self.cluster.service(scheduler)?.admin();
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Everything completed, nothing was lost, and everybody's own words agree on it.
    async fn judge(&self, lost: i64) -> Result<()> {
        let failed = self.count("SELECT count(*) FROM run WHERE status <> 'completed'").await?;
        ensure!(failed == 0, "{failed} runs did not complete");
        let again = self.count("SELECT count(*) FROM attempt WHERE outcome <> 'released'").await?;
        ensure!(again == lost, "{again} attempts were lost or failed, and {lost} should have been");
        let folder = self.cluster.history();
        Witness::dump(&self.sql, &folder).await?;
        let must_check = vec![Check::C3, Check::C8, Check::C9];
        Promises { must_check, ..Promises::default() }.write(&folder)?;
        let report = history::check(&History::read(&folder)?);
        let broken: Vec<_> = report.verdicts.iter().filter(|verdict| !verdict.violations.is_empty()).collect();
        ensure!(broken.is_empty(), "broken: {broken:?}");
        Ok(())
    }
}

/// The names in the table for whoever scales without KEDA.
fn documented_metrics() -> Vec<&'static str> {
    let page = include_str!("../../docs/AUTOSCALING.md");
    let section =
        page.split("## HPA without KEDA").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let cells = section.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    // Up to its labels.
    let begin = |name: &'static str| name.trim().trim_matches('`').split_inclusive('{').next().unwrap_or_default();
    cells.flat_map(|cell| cell.split(',').map(begin)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_and_schedulers_come_and_go_as_keda_says() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut stage = Stage::open(&[]).await?;
    let mut keda = Keda::of_executors(&stage.scaler).await?;
    let mut of_schedulers = Keda::of_schedulers(&stage.scaler, &[("busyPermille", BUSY_PERMILLE.to_string())]).await?;
    ensure!(
        (of_schedulers.target_size().await? - BUSY_PERMILLE).abs() < f64::EPSILON,
        "what the object says is the target"
    );
    keda.until_idle().await?;
    let mut active = keda.watch().await?;
    let is_active = active.message().await?.context("the state")?.result;
    ensure!(!is_active, "nothing is to do, and whoever watches is told otherwise");

    stage.start_naps(NAPS, NAP_S).await?;
    let begun = Instant::now();
    while !active.message().await?.context("a change of the state")?.result {}
    ensure!(begun.elapsed() < WAKE_MAX, "KEDA was told after {:?}", begun.elapsed());
    println!("told after {:?}", begun.elapsed());

    let mut executors = 1;
    while executors < EXECUTORS_MAX {
        keda.until_more_than(executors).await?;
        executors += 1;
        stage.cluster.start_executor(executors)?;
    }
    of_schedulers.until_more_than(1).await?;
    stage.cluster.start_scheduler(SCHEDULERS_MAX)?;
    // All of them work, and most of the work is still ahead.
    let busy = "SELECT count(DISTINCT executor_id) FROM block_run WHERE status = 'running'";
    stage.until(busy, |executors| executors == i64::try_from(EXECUTORS_MAX).unwrap_or_default()).await?;
    stage
        .until(
            "SELECT count(*) FROM shard s JOIN scheduler m ON m.id = s.owner AND m.lease_until > clock_timestamp()
                  GROUP BY m.id ORDER BY 1 LIMIT 1",
            |least| (100..=128).contains(&least),
        )
        .await?;
    // However long all of that took, there is work ahead when they are drained.
    stage.start_naps(NAPS, NAP_S).await?;
    for name in ["executor-1", "scheduler-1"] {
        let service = stage.cluster.service(name)?;
        service.drain()?;
        let took = service.wait(Duration::from_secs(30)).await?;
        println!("{name} drained in {took:?}");
    }
    let open = stage.count("SELECT count(*) FROM run WHERE completed_at IS NULL").await?;
    ensure!(open > 0, "everything was done before anybody was drained");
    stage.until_open(0).await?;
    while active.message().await?.context("a change of the state")?.result {}
    let begun = Instant::now();
    while keda.desired().await? > 0 {
        ensure!(begun.elapsed() < WAKE_MAX, "nothing is left to do, and somebody is asked for");
        while active.message().await?.context("a change of the state")?.result {}
    }
    // Somebody has to look at the clock, also where nothing is to do; and one is enough for that.
    let mut usual = Keda::of_schedulers(&stage.scaler, &[]).await?;
    let (target, wanted) = (usual.target_size().await?, usual.desired().await?);
    ensure!((target - BUSY_PERMILLE_USUAL).abs() < f64::EPSILON, "{target} thousandths are the usual target");
    ensure!(wanted <= 1 && usual.is_active().await?, "{wanted} schedulers are wanted when nothing is to do");
    let (said, names) = (stage.metrics("scheduler-2").await?, documented_metrics());
    let missing: Vec<_> = names.iter().filter(|name| !said.contains(&format!("\n{name}"))).collect();
    ensure!(names.len() > 5 && missing.is_empty(), "of {names:?} a scheduler does not say {missing:?}");
    stage.judge(0).await
}

/// What does not end within the deadline goes to others, does not count as a try, and completes once.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_deadline_and_leaves_the_rest_to_others() -> Result<()> {
    let _alone = ALONE.lock().await;
    let deadline = Duration::from_secs(2);
    let mut stage = Stage::open(&[("executor-1", "ORRERY_DRAIN_TIMEOUT", "2s")]).await?;
    let naps = i64::from(SLOTS);
    // All of them last until the other executor is there, and it does them from the start.
    stage.start_naps(SLOTS as usize, 20.0).await?;
    let running = "SELECT count(*) FROM block_run WHERE status = 'running'";
    stage.until(running, |count| count == naps).await?;
    stage.cluster.start_executor(2)?;
    stage.until("SELECT count(*) FROM executor WHERE state = 'online'", |online| online == 2).await?;
    let service = stage.cluster.service("executor-1")?;
    service.drain()?;
    let took = service.wait(Duration::from_secs(10)).await?;
    println!("drained in {took:?}");
    ensure!(took <= deadline + STOP_MAX, "it was gone after {took:?}, with a deadline of {deadline:?}");
    stage.until_open(0).await?;
    let released = stage.count("SELECT count(*) FROM attempt WHERE outcome = 'released'").await?;
    ensure!(released == naps, "{released} of {naps} attempts were given back");
    let tries = stage.count("SELECT max(attempts)::bigint FROM block_run").await?;
    ensure!(tries <= 1, "an attempt that was given back counted as try {tries}");
    stage.judge(0).await
}
