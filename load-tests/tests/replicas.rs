//! Several schedulers as processes: they share the work, and none is missed when it goes, however it goes.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use anyhow::{Context, Result};
use jiff::Timestamp;
use load_tests::{
    cluster::{Cluster, Shape, WORKSPACE},
    history::{Detail, JournalEvent, JournalLine, Witness},
    project_files::{ProjectFolder, noop},
    wire::Weather,
};
use proto::v1::{self as pb, trigger_service_client::TriggerServiceClient};
use provision::PrivateRedis;
use std::{
    collections::HashSet,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    task::AbortHandle,
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Enough for every share to have some.
const PIPELINES: usize = 24;
const BLOCKS: usize = 6;
const WAIT: Duration = Duration::from_secs(60);
/// The same for blocks that are processes, a few at once.
const PROCESSES_WAIT: Duration = Duration::from_secs(180);
/// Schedulers look by themselves so often.
const ROUND: Duration = Duration::from_secs(1);

/// What is promised: a dead scheduler is replaced, a drained one hands over, a new one owns its share.
const REPLACED_MAX: Duration = Duration::from_secs(6);
const HANDED_OVER_MAX: Duration = Duration::from_secs(1);
const JOINED_MAX: Duration = Duration::from_secs(10);
/// How often the machine is asked whether it goes on, and what of an answer's time is not held against it.
const PULSE: Duration = Duration::from_millis(20);
const PULSE_MAX: Duration = Duration::from_millis(50);

/// One cluster at a time: what takes how long is measured here.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Replicas {
    cluster: Cluster,
    sql: Client,
    wait: Duration,
}

/// Who lived and owned what at an instant of the database's clock; and how the machine has gone on since.
struct Look {
    at: Timestamp,
    members: HashSet<Uuid>,
    owners: Vec<(i16, Option<Uuid>)>,
    pulse: Pulse,
}

/// Counts the time in which this machine stood still: in which a session with the database that does nothing but ask for the
/// time got no answer. Nobody can promise anything for that time, and a machine that runs other tests has it.
struct Pulse {
    still: Arc<std::sync::Mutex<Duration>>,
    task: AbortHandle,
}

impl Pulse {
    async fn start(cluster: &Cluster) -> Result<Self> {
        let (sql, connection) = tokio_postgres::connect(&cluster.database_url(), NoTls).await?;
        tokio::spawn(connection);
        let still = Arc::new(std::sync::Mutex::new(Duration::ZERO));
        let counted = Arc::clone(&still);
        let beat = async move {
            loop {
                let begun = Instant::now();
                tokio::time::sleep(PULSE).await;
                if sql.query_one("SELECT 1", &[]).await.is_err() {
                    return;
                }
                *counted.lock().unwrap() += begun.elapsed().saturating_sub(PULSE_MAX);
            }
        };
        Ok(Self { still, task: tokio::spawn(beat).abort_handle() })
    }

    fn still(&self) -> Duration {
        *self.still.lock().unwrap()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Replicas {
    async fn start(schedulers: usize, executors: usize) -> Result<Self> {
        let shape = Shape { schedulers, scheduler_places: 4, executors, slots: 4, ..Shape::default() };
        let replicas = Self::deployed(Cluster::start_as(shape).await?).await?;
        replicas.until_shared(schedulers).await?;
        Ok(replicas)
    }

    async fn deployed(cluster: Cluster) -> Result<Self> {
        Self::with_blocks(cluster, false, None).await
    }

    /// Of blocks that are processes or not, with a limit of how many run at once over all pipelines.
    async fn with_blocks(cluster: Cluster, processes: bool, limit: Option<i64>) -> Result<Self> {
        let folder = cluster.folder().join("load");
        let project = ProjectFolder::create(&folder)?;
        limit.map(|blocks| project.limit_blocks(blocks)).transpose()?;
        let names: Vec<String> = (0..BLOCKS).map(|at| format!("block_{at}")).collect();
        let upstream = |at: usize| if at == 0 { &names[..0] } else { &names[at - 1..at] };
        let mut blocks: Vec<_> = (0..BLOCKS).map(|at| noop(&names[at], upstream(at))).collect();
        if processes {
            for (block, name) in blocks.iter_mut().zip(&names) {
                block["executor_type"] = "local_python".into();
                project.custom(name, "@custom\ndef nothing(*args, **kwargs):\n    return None\n")?;
            }
        }
        for number in 0..PIPELINES {
            project.pipeline(&format!("chain_{number}"), &blocks)?;
        }
        cluster.deploy(&folder).await?;
        let (sql, connection) = tokio_postgres::connect(&cluster.database_url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { cluster, sql, wait: if processes { PROCESSES_WAIT } else { WAIT } })
    }

    /// How many shards each living scheduler has.
    async fn shares(&self) -> Result<Vec<i64>> {
        let rows = self
            .sql
            .query(
                "SELECT count(s.id) FROM scheduler m LEFT JOIN shard s ON s.owner = m.id
                  WHERE m.lease_until > clock_timestamp() GROUP BY m.id ORDER BY 1",
                &[],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Until so many schedulers have all shards, in even parts; answers how long that took.
    async fn until_shared(&self, schedulers: usize) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let shares = self.shares().await?;
            let even = 256 / i64::try_from(schedulers)?;
            let is_even = shares.iter().all(|share| (share - even).abs() * 5 <= even);
            if shares.len() == schedulers && shares.iter().sum::<i64>() == 256 && is_even {
                return Ok(begun.elapsed());
            }
            anyhow::ensure!(begun.elapsed() < WAIT, "the shares are {shares:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// From the first look at which a shard has no owner to the first at which none is without, less what the machine
    /// stood still; no time at all when it was too short to be seen. The scheduler in question is gone by then.
    async fn ownerless(&mut self, drained: &str) -> Result<Duration> {
        let free = "SELECT count(*) FROM shard s WHERE NOT EXISTS (SELECT FROM scheduler m WHERE m.id = s.owner)";
        let pulse = Pulse::start(&self.cluster).await?;
        let (begun, mut since) = (Instant::now(), None);
        self.cluster.service(drained)?.drain()?;
        loop {
            let free: i64 = self.sql.query_one(free, &[]).await?.get(0);
            match since {
                None if free > 0 => since = Some((Instant::now(), pulse.still())),
                Some((since, still)) if free == 0 => return Ok((since.elapsed() + still).saturating_sub(pulse.still())),
                None if self.shares().await?.len() < 3 => return Ok(Duration::ZERO),
                _ => {}
            }
            anyhow::ensure!(begun.elapsed() < WAIT, "{free} shards have no owner");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Looks before something is done.
    async fn look(&self) -> Result<Look> {
        let pulse = Pulse::start(&self.cluster).await?;
        let owners = self.sql.query("SELECT id, owner FROM shard ORDER BY id", &[]).await?;
        let owners = owners.iter().map(|row| (row.get(0), row.get(1))).collect();
        let members = self.members().await?;
        let at = self.sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
        Ok(Look { at, members, owners, pulse })
    }

    async fn members(&self) -> Result<HashSet<Uuid>> {
        let living = "SELECT id FROM scheduler WHERE lease_until > clock_timestamp()";
        Ok(self.sql.query(living, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Every shard of the one that is gone since then had another owner so soon, as the database itself noted it. Answers what
    /// was seen.
    async fn check_handed_over(&self, who: &str, before: &Look, promised: Duration) -> Result<String> {
        let still = before.pulse.still();
        let members = self.members().await?;
        let gone: Vec<Uuid> = before.members.difference(&members).copied().collect();
        assert_eq!(gone.len(), 1, "one scheduler is gone");
        let shards: Vec<i16> =
            before.owners.iter().filter(|(_, owner)| *owner == Some(gone[0])).map(|(id, _)| *id).collect();
        let taken = "
            SELECT count(*), extract(epoch FROM max(first) - $2)::float8 FROM (
                SELECT min(at) AS first FROM history.taking
                 WHERE shard = ANY ($1) AND at > $2 AND owner IS NOT NULL AND owner <> $3 GROUP BY shard) AS taken";
        let row = self.sql.query_one(taken, &[&shards, &before.at, &gone[0]]).await?;
        assert_eq!(usize::try_from(row.get::<_, i64>(0))?, shards.len(), "each of its shards was taken");
        let took = Duration::from_secs_f64(row.get(1));
        let told = format!("{who} was replaced in {took:?}; the machine stood still for {still:?}");
        assert!(took <= promised + still, "{told}");
        Ok(told)
    }

    /// The one that is new since then owned all of its share so soon after it was first heard of. Answers what was seen.
    async fn check_joined(&self, before: &Look) -> Result<String> {
        let still = before.pulse.still();
        let members = self.members().await?;
        let new: Vec<Uuid> = members.difference(&before.members).copied().collect();
        assert_eq!(new.len(), 1, "one scheduler is new");
        let taken = "
            SELECT extract(epoch FROM max(first) - (SELECT started_at FROM scheduler WHERE id = $1))::float8 FROM (
                SELECT min(t.at) AS first FROM history.taking t JOIN shard s ON s.id = t.shard AND s.owner = $1
                 WHERE t.owner = $1 GROUP BY t.shard) AS taken";
        let took = Duration::from_secs_f64(self.sql.query_one(taken, &[&new[0]]).await?.get(0));
        let told = format!("a new scheduler had its share in {took:?}; the machine stood still for {still:?}");
        assert!(took <= JOINED_MAX + still, "{told}");
        Ok(told)
    }

    /// Starts one run of every pipeline; a call that fails is repeated with its key, as a client would.
    async fn create_all(&self, round: &str) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for number in 0..PIPELINES {
            let request = pb::CreateRunRequest {
                workspace: WORKSPACE.to_owned(),
                pipeline: format!("chain_{number}"),
                idempotency_key: format!("{round}-{number}"),
                ..pb::CreateRunRequest::default()
            };
            let begun = Instant::now();
            let run = loop {
                match self.cluster.runs().create_run(request.clone()).await {
                    Ok(answer) => break answer.into_inner().run.context("a run")?,
                    Err(status) if begun.elapsed() > WAIT => return Err(status.into()),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            ids.push(run.id);
        }
        Ok(ids)
    }

    /// Until these runs have completed; answers how long that took.
    async fn until_completed(&self, ids: &[String]) -> Result<Duration> {
        let begun = Instant::now();
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
        loop {
            let sql = "SELECT count(*) FROM run WHERE id = ANY ($1) AND status = 'completed'";
            let done: i64 = self.sql.query_one(sql, &[&ids]).await?.get(0);
            if usize::try_from(done)? == ids.len() {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > self.wait {
                let sql =
                    "SELECT r.shard, b.status, b.lease, b.block FROM run r LEFT JOIN block_run b ON b.run_id = r.id
                            WHERE r.id = ANY ($1) AND r.status <> 'completed' AND b.status <> 'completed' LIMIT 5";
                let open = self.sql.query(sql, &[&ids]).await?;
                anyhow::bail!("{done} of {} runs completed; open: {open:?}", ids.len());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// No block of a run without faults ran twice, and each key made one run.
    async fn check_once(&self, rounds: i64) -> Result<()> {
        let runs: i64 = self.sql.query_one("SELECT count(*) FROM run", &[]).await?.get(0);
        assert_eq!(runs, rounds * i64::try_from(PIPELINES)?, "one run for each key");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_schedulers_share_executors_and_none_is_missed() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut replicas = Replicas::start(3, 1).await?;
    Witness::install(&replicas.sql, Detail::Owners).await?;
    // One executor: two of three schedulers have none, and borrow its slots.
    let ids = replicas.create_all("shared").await?;
    let took = replicas.until_completed(&ids).await?;
    println!("shared: {took:?}");
    let again: i64 = replicas.sql.query_one("SELECT count(*) FROM attempt", &[]).await?.get(0);
    assert_eq!(again, 0, "no attempt was lost where nothing failed");

    let before = replicas.look().await?;
    replicas.cluster.service("scheduler-2")?.kill()?;
    let ids = replicas.create_all("killed").await?;
    replicas.until_shared(2).await?;
    println!("{}", replicas.check_handed_over("a dead scheduler", &before, REPLACED_MAX).await?);
    replicas.until_completed(&ids).await?;

    let before = replicas.look().await?;
    replicas.cluster.start_scheduler(4)?;
    replicas.until_shared(3).await?;
    println!("{}", replicas.check_joined(&before).await?);
    let ids = replicas.create_all("joined").await?;
    replicas.until_completed(&ids).await?;

    let before = replicas.look().await?;
    replicas.cluster.service("scheduler-1")?.drain()?;
    replicas.until_shared(2).await?;
    println!("{}", replicas.check_handed_over("a drained scheduler", &before, HANDED_OVER_MAX).await?);
    let ids = replicas.create_all("drained").await?;
    replicas.until_completed(&ids).await?;
    replicas.check_once(4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_a_frozen_scheduler_writes_nothing_when_it_wakes() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut replicas = Replicas::start(2, 2).await?;
    let ids = replicas.create_all("before").await?;
    replicas.until_completed(&ids).await?;
    replicas.cluster.service("scheduler-1")?.freeze()?;
    let ids = replicas.create_all("frozen").await?;
    replicas.until_shared(1).await?;
    replicas.until_completed(&ids).await?;
    replicas.cluster.service("scheduler-1")?.thaw()?;
    replicas.until_shared(2).await?;
    let ids = replicas.create_all("thawed").await?;
    replicas.until_completed(&ids).await?;
    replicas.check_once(3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_redis_may_be_emptied_and_may_be_away() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut redis = PrivateRedis::start()?;
    let settings = vec![("ORRERY_SCHEDULER_REDIS_URL".to_owned(), redis.url())];
    let shape = Shape { schedulers: 2, scheduler_places: 3, slots: 4, settings, ..Shape::default() };
    let mut replicas = Replicas::deployed(Cluster::start_as(shape).await?).await?;
    replicas.until_shared(2).await?;
    redis.flush()?;
    let ids = replicas.create_all("emptied").await?;
    replicas.until_completed(&ids).await?;
    // Redis and a scheduler at once: PostgreSQL keeps the leases, and the other one takes over all the same.
    redis.kill();
    replicas.cluster.service("scheduler-1")?.kill()?;
    let ids = replicas.create_all("away").await?;
    replicas.until_shared(1).await?;
    replicas.until_completed(&ids).await?;
    redis.restart()?;
    replicas.cluster.start_scheduler(3)?;
    replicas.until_shared(2).await?;
    let ids = replicas.create_all("back").await?;
    replicas.until_completed(&ids).await?;
    replicas.check_once(3).await
}

/// Schedulers tell each other that shards are free. Where that is lost, the next round finds them.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_a_lost_wake_up_costs_one_round() -> Result<()> {
    let _alone = ALONE.lock().await;
    let shape = Shape { schedulers: 3, scheduler_places: 3, slots: 4, wires: Some(1), ..Shape::default() };
    let mut replicas = Replicas::deployed(Cluster::start_as(shape).await?).await?;
    replicas.until_shared(3).await?;
    let heard = replicas.ownerless("scheduler-3").await?;
    replicas.cluster.service("scheduler-3")?.wait(WAIT).await?;
    replicas.cluster.start_scheduler(3)?;
    replicas.until_shared(3).await?;
    replicas.cluster.wires()?.set("peers", "", Weather::partition());
    let lost = replicas.ownerless("scheduler-3").await?;
    println!("without an owner: {heard:?} where it was heard, {lost:?} where it was lost");
    assert!(replicas.cluster.wires()?.harm("peers", "") > 0, "nothing was held: the partition did not bite");
    assert!(lost < ROUND + Duration::from_secs(1), "without a wake-up shards had no owner for {lost:?}");
    replicas.cluster.wires()?.heal();
    let ids = replicas.create_all("after").await?;
    replicas.until_completed(&ids).await?;
    replicas.check_once(1).await
}

/// Every scheduler believes that everything is its own, and takes it from the others each second. Epochs decide.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_a_lock_that_lies_to_everybody_each_run_runs_once() -> Result<()> {
    let _alone = ALONE.lock().await;
    let settings = vec![("ORRERY_SCHEDULER_LEASES".to_owned(), "liar".to_owned())];
    let shape = Shape { schedulers: 2, scheduler_places: 2, slots: 4, settings, ..Shape::default() };
    let replicas = Replicas::deployed(Cluster::start_as(shape).await?).await?;
    for round in 0..3 {
        let ids = replicas.create_all(&format!("round-{round}")).await?;
        replicas.until_completed(&ids).await?;
    }
    let epochs: i64 = replicas.sql.query_one("SELECT sum(epoch)::bigint FROM shard", &[]).await?.get(0);
    assert!(epochs > 2 * 256, "nobody took anything from anybody: the lie did not bite ({epochs})");
    replicas.check_once(3).await
}

/// Blocks at once over all pipelines, in the test below.
const LIMIT: i64 = 3;

/// The most processes of attempts at one instant, over all executors by their own words.
fn most_at_once(folder: &Path) -> Result<i64> {
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        for line in std::fs::read_to_string(entry?.path())?.lines() {
            let line: JournalLine = serde_json::from_str(line)?;
            match line.event {
                JournalEvent::Start { .. } => changes.push((line.mono_us, 1)),
                JournalEvent::End { .. } => changes.push((line.mono_us, -1)),
                _ => {}
            }
        }
    }
    changes.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    Ok(most)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_a_limit_holds_over_every_scheduler_also_when_one_dies() -> Result<()> {
    let _alone = ALONE.lock().await;
    let shape = Shape { schedulers: 3, scheduler_places: 4, executors: 2, slots: 4, ..Shape::default() };
    let mut replicas = Replicas::with_blocks(Cluster::start_as(shape).await?, true, Some(LIMIT)).await?;
    replicas.until_shared(3).await?;
    let mut ids = replicas.create_all("first").await?;
    ids.extend(replicas.create_all("second").await?);
    replicas.cluster.service("scheduler-2")?.kill()?;
    ids.extend(replicas.create_all("third").await?);
    let took = replicas.until_completed(&ids).await?;
    println!("{} runs of {BLOCKS} blocks, {LIMIT} at once, in {took:?}", ids.len());
    replicas.check_once(3).await?;
    let most = most_at_once(&replicas.cluster.history())?;
    assert_eq!(most, LIMIT, "blocks that ran at one instant: as many as may, and no more");
    Ok(())
}

/// An API trigger of a pipeline, and its token.
async fn called(cluster: &Cluster, pipeline: &str) -> Result<(String, String)> {
    let mut triggers = TriggerServiceClient::new(cluster.channel());
    let spec =
        pb::TriggerSpec { kind: Some(pb::trigger_spec::Kind::Api(pb::ApiCall {})), ..pb::TriggerSpec::default() };
    let create = pb::CreateTriggerRequest {
        workspace: WORKSPACE.to_owned(),
        pipeline: pipeline.to_owned(),
        name: "called".to_owned(),
        active: true,
        spec: Some(spec),
        idempotency_key: String::new(),
    };
    let trigger_id = triggers.create_trigger(create).await?.into_inner().trigger.context("a trigger")?.id;
    let rotate = pb::RotateTriggerTokenRequest { trigger_id: trigger_id.clone(), ..Default::default() };
    Ok((trigger_id, triggers.rotate_trigger_token(rotate).await?.into_inner().token))
}

/// Calls a trigger as a program does; answers the code.
async fn call(web_server: SocketAddr, trigger: &str, token: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(web_server).await?;
    let head = format!(
        "POST /api/pipeline_schedules/{trigger}/api_trigger HTTP/1.1\r\nHost: {web_server}\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1).context("a code")?.parse()?)
}

#[tokio::test]
async fn replicas_a_tokens_rate_holds_over_all_web_servers() -> Result<()> {
    const PER_SECOND: u32 = 2;
    let _alone = ALONE.lock().await;
    let settings = vec![("ORRERY_WEB_SERVER_LIMITS__TRIGGER_CALLS_PER_SECOND".to_owned(), PER_SECOND.to_string())];
    let shape = Shape { schedulers: 2, scheduler_places: 2, web_servers: 2, settings, ..Shape::default() };
    let replicas = Replicas::deployed(Cluster::start_as(shape).await?).await?;
    replicas.until_shared(2).await?;
    let (trigger, token) = called(&replicas.cluster, "chain_0").await?;
    let web_servers = replicas.cluster.web_servers();
    let (begun, mut let_in) = (Instant::now(), 0);
    for number in 0..40 {
        match call(web_servers[number % 2], &trigger, &token).await? {
            200 => let_in += 1,
            429 => {}
            code => anyhow::bail!("call {number} was answered {code}"),
        }
    }
    // A full bucket, and what came into it meanwhile. Two that count apart would let in twice as many.
    let most = f64::from(PER_SECOND) * (2.0 + begun.elapsed().as_secs_f64()) + 1.0;
    assert!(f64::from(let_in) <= most && let_in >= 2 * PER_SECOND, "{let_in} of 40, at most {most:.1}");
    Ok(())
}
