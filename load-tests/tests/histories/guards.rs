//! The guards by an epoch that no cluster without guards gets to, each taken away by itself: a former owner writes what it had in
//! hand when another one has its shard. With the guard nothing of that is written. Without it the checker finds what comes
//! of it, or who looks at what the next owner reads.
//!
//! No cluster is needed: both owners are `store`, and the former one's statements are changed on their way. Three statements name an
//! epoch that something else makes needless, and have no play. `run/repeat` sets what takes a run's place only when that is there,
//! and that is created in the same transaction under the guard of `run/commit`. `runtime/reset` names the number and the state of
//! the life whose error is put away, and both change with its next life. What `shard/settle` reads for a former owner leads to no write
//! that is not refused, as if the pool were lost a moment later; what counts there is its lock.

use anyhow::{Context, Result, ensure};
use domain::{
    admission::Source,
    backfill::{Cursor, End, Intervals, Length, Order, Unit},
    graph::Graph,
    id::{BackfillId, ExecutorId, PipelineId, ProjectId, RunId, SchedulerId, TriggerId, VolumeId, WorkspaceId},
    run::{RunRow, RunStatus, Transition},
    trigger,
    unit::{Failure, LOST, LostAttempt, Step, UnitKey},
};
use jiff::{Timestamp, tz::TimeZone};
use load_tests::{
    history::{Check, Detail, History, Promises, Witness, check},
    rewriter::{Rewriter, Rule},
};
use std::{path::Path, sync::Arc, time::Duration};
use store::{
    Store,
    backfills::{self, Backfill, Progress, Spec},
    journal::Journal,
    ledger,
    runs::{self, Batch, NewRun},
    schedulers::{self, Load},
    shards::{self, Shard},
    volumes,
};
use testkit::{Database, Ways};
use tokio_postgres::Client;
use uuid::Uuid;

const INTERVALS: u64 = 3;
const POOL: &str = "default";
const LEASE: Duration = Duration::from_secs(60);

/// A scheduler, of which only what it writes is there.
struct Owner {
    store: Store,
    journal: Journal,
    id: SchedulerId,
}

impl Owner {
    async fn new(url: &str) -> Result<Self> {
        let (store, id) = (Store::connect(url, 2).await?, SchedulerId(Uuid::now_v7()));
        schedulers::renew(&store, id, LEASE, "", Load::default()).await?;
        Ok(Self { journal: Journal::open(&store).await?, store, id })
    }

    async fn take(&self, pipeline: PipelineId) -> Result<Shard> {
        let taken = shards::take(&self.store, self.id, &[pipeline.shard().into()], true).await?;
        taken.first().copied().context("a shard")
    }

    async fn write(&mut self, mut batch: Batch) -> Result<()> {
        runs::commit(&mut self.journal, &mut batch).await?;
        Ok(())
    }
}

/// A pipeline, and two who own its shard, one after the other.
struct Play {
    former: Owner,
    latter: Owner,
    sql: Client,
    workspace: WorkspaceId,
    pipeline: PipelineId,
    manual: TriggerId,
    rewriter: Rewriter,
    _ways: Ways,
    _database: Database,
}

impl Play {
    /// With these changes of what the former owner sends.
    async fn start(rules: &[Rule]) -> Result<Self> {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
        let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
        let ways = database.counted().await;
        let (server, name) = ways.url().rsplit_once('/').context("a database's name")?;
        let (user, address) = server.rsplit_once('@').context("a database's address")?;
        let rewriter = Rewriter::before(address.parse()?, rules).await?;
        let former = Owner::new(&format!("{user}@{}/{name}", rewriter.address())).await?;
        let latter = Owner::new(database.url()).await?;
        let sql = database.client().await;
        Witness::install(&sql, Detail::Units).await?;
        let [workspace, pipeline, manual] = [(); 3].map(|()| Uuid::now_v7());
        sql.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace]).await?;
        let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, 'p', 1)";
        sql.execute(insert, &[&pipeline, &workspace]).await?;
        let insert = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source, version)
                      VALUES ($1, $2, 'manual', 'manual', true, 'api', 1)";
        sql.execute(insert, &[&manual, &pipeline]).await?;
        Ok(Self {
            former,
            latter,
            sql,
            workspace: WorkspaceId(workspace),
            pipeline: PipelineId(pipeline),
            manual: TriggerId(manual),
            rewriter,
            _ways: ways,
            _database: database,
        })
    }

    /// The former owner's shard, and that of the latter, who has taken it since.
    async fn taken_over(&self) -> Result<(Shard, Shard)> {
        Ok((self.former.take(self.pipeline).await?, self.latter.take(self.pipeline).await?))
    }

    fn run(&self, backfill: Option<BackfillId>, at: Timestamp) -> NewRun {
        NewRun {
            id: RunId::new_in(self.pipeline.shard()),
            workspace_id: self.workspace,
            pipeline_id: self.pipeline,
            pipeline_version: 1,
            if_current: false,
            trigger_id: self.manual,
            source: Source(backfill.map_or(self.manual.0, |backfill| backfill.0)),
            trigger_version: None,
            logical_key: trigger::key::of_time(at),
            variables: "{}".to_owned(),
            execution_date: at,
            timeout_s: None,
            timeout_cancels: false,
            allow_blocks_to_fail: false,
            parent_run_id: None,
            backfill_id: backfill,
            event_variables: None,
            sla_at: None,
        }
    }

    /// A run that the former owner has begun, and the shards as in [`Play::taken_over`].
    async fn with_run(&mut self) -> Result<(RunId, Shard, Shard)> {
        let (run, mut batch) = (self.run(None, Timestamp::now()), Batch::default());
        let (id, stale) = (run.id, self.former.take(self.pipeline).await?);
        batch.create(run, stale);
        self.former.write(batch).await?;
        Ok((id, stale, self.latter.take(self.pipeline).await?))
    }

    /// Whether the checker finds a backfill that goes on when nobody has anything left to do.
    async fn has_forgotten_backfill(&self) -> Result<bool> {
        let folder = tempfile::tempdir()?;
        Witness::dump(&self.sql, folder.path()).await?;
        Promises::default().write(folder.path())?;
        let report = check(&History::read(folder.path())?);
        Ok(report.of(Check::C7).violations.iter().any(|violation| violation.what.contains("the backfill goes on")))
    }

    /// Whether there is a row.
    async fn is_there(&self, sql: &str) -> Result<bool> {
        Ok(self.sql.query_opt(&format!("{sql} LIMIT 1"), &[]).await?.is_some())
    }
}

/// With the guard nothing comes of what the former owner writes, and without it something does.
async fn shows(guard: Rule, play: impl AsyncFn(&mut Play) -> Result<bool>) -> Result<()> {
    ensure!(!play(&mut Play::start(&[]).await?).await?, "there is harm with the guard");
    let mut without = Play::start(&[guard]).await?;
    ensure!(play(&mut without).await?, "there is no harm without the guard");
    ensure!(without.rewriter.idle_rules() == 0, "the guard is still there: the rule has changed no statement");
    Ok(())
}

/// A backfill by the minute, of which nothing has been started.
fn backfill(play: &Play) -> Backfill {
    let spec = Spec {
        name: "fill".to_owned(),
        start_at: Timestamp::UNIX_EPOCH,
        end_at: Timestamp::UNIX_EPOCH + Duration::from_secs(60 * (INTERVALS - 1)),
        length: Length::Units(Unit::Minute, 1),
        time_zone: "UTC".to_owned(),
        order: Order::Ascending,
        parallelism: 1,
        variables: serde_json::json!({}),
        allow_blocks_to_fail: false,
    };
    Backfill {
        id: BackfillId::new_in(play.pipeline.shard()),
        workspace_id: play.workspace,
        pipeline_id: play.pipeline,
        spec,
        cursor: Cursor::new(INTERVALS),
        created_at: Timestamp::now(),
        completed_at: None,
        pause_reason: None,
    }
}

/// The next interval of a backfill, as an owner writes it: its run, and how far the backfill is with it.
fn next_interval(play: &Play, backfill: &mut Backfill, ends: bool, shard: Shard) -> Result<Batch> {
    let Spec { start_at, end_at, length, order, .. } = &backfill.spec;
    let intervals = Intervals::new(*start_at, *end_at, length, TimeZone::UTC)?;
    let next = backfill.cursor.start_next(&intervals, *order).context("an interval")?;
    let mut batch = Batch::default();
    batch.create(play.run(Some(backfill.id), next.start), shard);
    if ends {
        backfill.cursor.end(End::Completed);
    }
    let cursor = backfill.cursor;
    let ended_at = cursor.status.has_ended().then(Timestamp::now);
    batch.backfill(backfill.id, Progress { cursor, ended_at, pause_reason: None }, shard);
    Ok(batch)
}

/// Whoever takes a shard carries on what it finds, as long as anything is due: for the runs that it has counted it waits.
async fn carry_on(play: &mut Play, shard: Shard) -> Result<()> {
    let found = backfills::unfinished(&play.latter.store.client().await?, &[shard.id]).await?;
    for mut backfill in found {
        while backfill.cursor.due(1, 1) > 0 {
            let batch = next_interval(play, &mut backfill, true, shard)?;
            play.latter.write(batch).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_not_moved_past_an_interval_whose_run_is_refused() -> Result<()> {
    let guard = Rule { from: " AND s.epoch = c.epoch", to: "" };
    shows(guard, async |play| {
        let mut backfill = backfill(play);
        let stale = play.former.take(play.pipeline).await?;
        ensure!(backfills::insert(&play.former.store, &backfill, stale).await?, "a backfill is refused to its owner");
        let shard = play.latter.take(play.pipeline).await?;
        let late = next_interval(play, &mut backfill, false, stale)?;
        play.former.write(late).await?;
        carry_on(play, shard).await?;
        play.has_forgotten_backfill().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_not_promised_by_whom_nobody_hears_of_it() -> Result<()> {
    let guard = Rule { from: " AND s.epoch = $3::bigint", to: " AND $3::bigint IS NOT NULL" };
    shows(guard, async |play| {
        let (stale, shard) = play.taken_over().await?;
        carry_on(play, shard).await?;
        backfills::insert(&play.former.store, &backfill(play), stale).await?;
        play.has_forgotten_backfill().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_was_acknowledged_stays_known_by_its_key() -> Result<()> {
    let guard = Rule { from: " AND s.epoch = t.epoch", to: "" };
    shows(guard, async |play| {
        let (run, stale, shard) = play.with_run().await?;
        let mut retried = Batch::default();
        retried.retry(run, Some("later"), shard);
        play.latter.write(retried).await?;
        let mut late = Batch::default();
        late.retry(run, Some("earlier"), stale);
        play.former.write(late).await?;
        // Whoever repeats that call would have the run run once more.
        play.is_there("SELECT FROM run WHERE retry_key IS DISTINCT FROM 'later'").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_in_time_has_missed_nothing() -> Result<()> {
    let guard = Rule { from: " AND s.epoch = m.epoch", to: "" };
    shows(guard, async |play| {
        let (run, stale, shard) = play.with_run().await?;
        let now = Some(Timestamp::now());
        let row = RunRow {
            status: RunStatus::Completed,
            started_at: now,
            completed_at: now,
            reason: None,
            cancel_reason: None,
        };
        let mut ended = Batch::default();
        ended.add(run, &graph()?, shard, &Transition::Run(row));
        play.latter.write(ended).await?;
        let mut late = Batch::default();
        late.miss_sla(run, Timestamp::now(), stale);
        play.former.write(late).await?;
        play.is_there("SELECT FROM run WHERE completed_at <= sla_missed_at").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_tells_of_no_loss_that_does_not_count() -> Result<()> {
    let guard = Rule { from: " AND s.epoch = a.epoch", to: "" };
    shows(guard, async |play| {
        let (run, stale, _) = play.with_run().await?;
        let attempt = LostAttempt {
            key: UnitKey { step: Step::Block(0), child: None },
            lease: 1,
            executor: ExecutorId(Uuid::now_v7()),
            outcome: "lost",
            started_at: Timestamp::now(),
            error: Some(Failure::new(LOST, "nothing was heard of it")),
        };
        let mut late = Batch::default();
        late.add(run, &graph()?, stale, &Transition::Lost(Box::new(attempt)));
        play.former.write(late).await?;
        play.is_there(
            "SELECT FROM log_line l WHERE NOT EXISTS (
                 SELECT FROM attempt a WHERE (a.run_id, a.block, a.child, a.lease) = (l.run_id, l.block, l.child, l.lease))",
        )
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_stands_as_an_executor_said_last() -> Result<()> {
    let guard = Rule { from: " AND s.epoch = $3::bigint FOR SHARE", to: " AND $3::bigint IS NOT NULL FOR SHARE" };
    shows(guard, async |play| {
        let (stale, shard) = play.taken_over().await?;
        ledger::ensure_pool(&play.latter.store, POOL, shard).await?;
        let (id, project) = (VolumeId(Uuid::now_v7()), ProjectId(Uuid::nil()));
        let new =
            volumes::New { id, project, name: "data", pool: POOL, size_bytes: 1, storage_class: "", created_by: None };
        let mut client = play.latter.store.client().await?;
        let making = client.transaction().await?;
        ensure!(volumes::insert(&making, &new).await?, "a volume is not made");
        making.commit().await?;
        let said = |state| [volumes::Reported { id, state, size_bytes: 1, message: String::new() }];
        volumes::report(&play.latter.store, shard, &said("failed")).await?;
        volumes::report(&play.former.store, stale, &said("ready")).await?;
        play.is_there("SELECT FROM volume_state WHERE state <> 'failed'").await
    })
    .await
}

/// Of one block.
fn graph() -> Result<Graph> {
    let pipeline = serde_json::json!({ "name": "p", "kind": "python", "blocks": [
        { "uuid": "a", "name": "a", "kind": "custom", "language": "python", "upstream": [] }
    ] });
    Ok(Graph::new(Arc::new(serde_json::from_value(pipeline)?))?)
}
