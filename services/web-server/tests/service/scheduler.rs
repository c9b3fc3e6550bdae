//! A scheduler as far as a web-server sees one: it takes commands, writes runs and tells of changes.

use crate::fleet::Fleet;
use proto::internal::v1::{
    BackfillChange, CancelRunRequest, CancelRunResponse, ChangeBackfillRequest, ChangeBackfillResponse,
    CleanLogsRequest, CleanLogsResponse, CreateBackfillRequest, CreateBackfillResponse, CreateRunsRequest,
    CreateRunsResponse, ExpireOutputsRequest, ExpireOutputsResponse, LogDay, ResumeAttemptRequest,
    ResumeAttemptResponse, RetryRunRequest, RetryRunResponse, TestNotificationRequest, TestNotificationResponse,
    WatchChangesRequest, WatchChangesResponse,
    command_service_server::{CommandService, CommandServiceServer},
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use testkit::Database;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use uuid::Uuid;

#[derive(Clone)]
pub(crate) struct Scheduler {
    database: Arc<Database>,
    changes: broadcast::Sender<WatchChangesResponse>,
    /// Starts that it refuses from now on, as one that drains does.
    pub(crate) away_for: Arc<AtomicUsize>,
    /// The number of the life that each stop of a runtime was meant for.
    pub(crate) stops: Arc<Mutex<Vec<i64>>>,
    /// The keys of the retries that it was asked for.
    pub(crate) retries: Arc<Mutex<Vec<String>>>,
    /// When the trigger `held` was started first.
    held_since: Arc<OnceLock<Instant>>,
}

/// So long somebody holds the row of the trigger `held`, from its first start on.
const HELD: Duration = Duration::from_millis(100);

const CREATE: &str = "
    WITH target AS (
        SELECT p.id, p.workspace_id, p.version, t.id AS trigger_id
          FROM pipeline p
          JOIN trigger t ON t.pipeline_id = p.id AND (t.id = $5 OR $5 IS NULL AND t.name = 'manual')
         WHERE p.id = $1 AND ($5 IS NULL OR t.active AND t.version = $6)
    ), fired AS (
        INSERT INTO firing (trigger_id, logical_key, decided, run_id, shard_epoch)
        SELECT trigger_id, $2, 'fired', $3, 1 FROM target
        ON CONFLICT DO NOTHING RETURNING run_id
    )
    INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, variables, execution_date)
    SELECT fired.run_id, workspace_id, id, version, trigger_id, 0, 'initial', $4::text::jsonb,
           coalesce(to_timestamp($7::float8 / 1e6), now()) FROM target, fired";
const FIND: &str = "SELECT f.run_id FROM firing f JOIN trigger t ON t.id = f.trigger_id
                     WHERE t.pipeline_id = $1 AND f.logical_key = $2 AND (t.id = $3 OR $3 IS NULL)";

impl Scheduler {
    pub(crate) async fn start(database: Arc<Database>) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let changes = broadcast::Sender::new(16);
        let (away_for, stops, retries, held_since) = Default::default();
        let scheduler = Self { database, changes, away_for, stops, retries, held_since };
        let service = CommandServiceServer::new(scheduler.clone());
        let fleet = Fleet::service(scheduler.database.clone(), scheduler.stops.clone()).await;
        let server = tonic::transport::Server::builder().add_service(service).add_service(fleet);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (scheduler, addr)
    }

    /// Tells that a run and its log changed.
    pub(crate) fn tell(&self, run: Uuid) {
        let id = run.as_bytes().to_vec();
        let _ = self.changes.send(WatchChangesResponse {
            run_ids: vec![id.clone()],
            logged_run_ids: vec![id],
            ..WatchChangesResponse::default()
        });
    }
}

fn uuid(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap()
}

#[tonic::async_trait]
impl CommandService for Scheduler {
    async fn create_runs(&self, request: Request<CreateRunsRequest>) -> Result<Response<CreateRunsResponse>, Status> {
        if self.away_for.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("it drains"));
        }
        let db = self.database.client().await;
        let (mut run_ids, mut skipped) = (Vec::new(), Vec::new());
        for run in request.into_inner().runs {
            let pipeline = uuid(&run.pipeline_id);
            let (trigger, version) = (Uuid::from_slice(&run.trigger_id).ok(), run.trigger_version);
            // One that is paused or halted, in this version or with its workspace, has its start skipped.
            let paused = "INSERT INTO firing (trigger_id, logical_key, decided, reason, shard_epoch)
                          SELECT t.id, $2, 'skipped', 'pause', 1
                            FROM trigger t JOIN pipeline p ON p.id = t.pipeline_id JOIN workspace w ON w.id = p.workspace_id
                           WHERE t.id = $1 AND t.version = $3 AND (NOT t.active OR w.archived_at IS NOT NULL OR EXISTS
                                 (SELECT FROM trigger_state s WHERE s.trigger_id = t.id AND (s.state ->> 'halted')::bigint = t.version))";
            if db.execute(paused, &[&trigger, &run.logical_key, &version]).await.unwrap() > 0 {
                run_ids.push(Vec::new());
                skipped.push("pause".to_owned());
                continue;
            }
            // A trigger of this name skips everything, as if something ran.
            let busy = "SELECT count(*) FROM trigger WHERE id = $1 AND name = 'busy'";
            if db.query_one(busy, &[&trigger]).await.unwrap().get::<_, i64>(0) > 0 {
                run_ids.push(Vec::new());
                skipped.push("overlap".to_owned());
                continue;
            }
            // One of this name waits for what runs.
            let later = "SELECT count(*) FROM trigger WHERE id = $1 AND name = 'later'";
            if db.query_one(later, &[&trigger]).await.unwrap().get::<_, i64>(0) > 0 {
                run_ids.push(Vec::new());
                skipped.push("waiting".to_owned());
                continue;
            }
            let held = "SELECT count(*) FROM trigger WHERE id = $1 AND name = 'held'";
            let is_held = db.query_one(held, &[&trigger]).await.unwrap().get::<_, i64>(0) > 0;
            if is_held && self.held_since.get_or_init(Instant::now).elapsed() < HELD {
                return Err(Status::aborted("somebody holds the trigger; read it again"));
            }
            // One of this name is edited once, just before its first start.
            let edit = "UPDATE trigger SET version = 2 WHERE id = $1 AND name = 'edited' AND version = 1";
            db.execute(edit, &[&trigger]).await.unwrap();
            let id = Uuid::now_v7();
            let date = run.execution_date_us.map(|us| us as f64);
            db.execute(CREATE, &[&pipeline, &run.logical_key, &id, &run.variables, &trigger, &version, &date])
                .await
                .unwrap();
            let found = db.query_opt(FIND, &[&pipeline, &run.logical_key, &trigger]).await.unwrap();
            let found = found.ok_or_else(|| Status::aborted("the trigger is in another version; read it again"))?;
            run_ids.push(found.get::<_, Uuid>(0).as_bytes().to_vec());
            skipped.push(String::new());
        }
        Ok(Response::new(CreateRunsResponse { run_ids, skipped }))
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Result<Response<CancelRunResponse>, Status> {
        let request = request.into_inner();
        let db = self.database.client().await;
        let cancel = "UPDATE run SET status = 'cancelled', completed_at = now(), reason = $2
                       WHERE id = $1 AND completed_at IS NULL";
        db.execute(cancel, &[&uuid(&request.run_id), &request.reason.replace('\0', "")]).await.unwrap();
        self.tell(uuid(&request.run_id));
        Ok(Response::new(CancelRunResponse {}))
    }

    async fn retry_run(&self, request: Request<RetryRunRequest>) -> Result<Response<RetryRunResponse>, Status> {
        let request = request.into_inner();
        self.retries.lock().unwrap().push(request.logical_key);
        let db = self.database.client().await;
        // One that is left open while a command is under way is ended by the server when that takes long.
        let open = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND state = 'idle in transaction'";
        let none_open = || async { (db.query_one(open, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(()) };
        testkit::wait_for("no transaction to be open across the call", Duration::from_secs(3), none_open).await;
        if self.away_for.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("it has done so, and dies"));
        }
        Ok(Response::new(RetryRunResponse { run_id: request.run_id }))
    }

    async fn expire_outputs(
        &self,
        request: Request<ExpireOutputsRequest>,
    ) -> Result<Response<ExpireOutputsResponse>, Status> {
        let db = self.database.client().await;
        for due in request.into_inner().pipelines {
            let expire =
                "UPDATE run SET outputs_expired_at = now() WHERE pipeline_id = $1 AND completed_at IS NOT NULL";
            db.execute(expire, &[&uuid(&due.pipeline_id)]).await.unwrap();
        }
        Ok(Response::new(ExpireOutputsResponse { runs: 0, more: false }))
    }

    async fn clean_logs(&self, request: Request<CleanLogsRequest>) -> Result<Response<CleanLogsResponse>, Status> {
        let Some(before_us) = request.get_ref().before_us else {
            let message = "log lines are kept for ever".to_owned();
            return Err(rpc::status::to_status(domain::ErrorKind::FailedPrecondition, "LOG_RETENTION", message, &[]));
        };
        let days = vec![LogDay { name: "log_line_20260131".to_owned(), size_bytes: 8192 }];
        Ok(Response::new(CleanLogsResponse { days, before_us }))
    }

    async fn test_notification(
        &self,
        _: Request<TestNotificationRequest>,
    ) -> Result<Response<TestNotificationResponse>, Status> {
        Ok(Response::new(TestNotificationResponse { notifications: 1 }))
    }

    async fn resume_attempt(
        &self,
        _: Request<ResumeAttemptRequest>,
    ) -> Result<Response<ResumeAttemptResponse>, Status> {
        Err(Status::unimplemented("web-servers ask for nothing of this kind"))
    }

    async fn create_backfill(
        &self,
        request: Request<CreateBackfillRequest>,
    ) -> Result<Response<CreateBackfillResponse>, Status> {
        let backfill = request.into_inner();
        let db = self.database.client().await;
        let (id, pipeline) = (Uuid::now_v7(), uuid(&backfill.pipeline_id));
        let cron = Some(backfill.cron).filter(|cron| !cron.is_empty());
        let (start, end) = (backfill.start_us as f64 / 1e6, backfill.end_us as f64 / 1e6);
        let insert =
            "INSERT INTO backfill (id, workspace_id, pipeline_id, shard, name, start_at, end_at, unit, cron, every,
                                            time_zone, descending, parallelism, status, total)
                      SELECT $1, workspace_id, id, 0, $3, to_timestamp($4), to_timestamp($5),
                             CASE WHEN $6::text IS NULL THEN 'day' ELSE 'cron' END, $6, $7, $8, $9, $10, 'running', 5
                        FROM pipeline WHERE id = $2
                      ON CONFLICT (pipeline_id, name) DO NOTHING";
        let rows = db
            .execute(
                insert,
                &[
                    &id,
                    &pipeline,
                    &backfill.name,
                    &start,
                    &end,
                    &cron,
                    &backfill.every,
                    &backfill.time_zone,
                    &backfill.descending,
                    &backfill.parallelism,
                ],
            )
            .await
            .unwrap();
        if rows == 0 {
            let why = "the pipeline has another backfill of this name";
            return Err(rpc::status::to_status(domain::ErrorKind::AlreadyExists, "BACKFILL_EXISTS", why.into(), &[]));
        }
        Ok(Response::new(CreateBackfillResponse { backfill_id: id.as_bytes().to_vec() }))
    }

    async fn change_backfill(
        &self,
        request: Request<ChangeBackfillRequest>,
    ) -> Result<Response<ChangeBackfillResponse>, Status> {
        let request = request.into_inner();
        let status = match request.change() {
            BackfillChange::Pause => "paused",
            BackfillChange::Resume => "running",
            _ => "cancelled",
        };
        let change = "UPDATE backfill SET status = $2 WHERE id = $1 AND status <> 'cancelled'";
        let db = self.database.client().await;
        if db.execute(change, &[&uuid(&request.backfill_id), &status]).await.unwrap() == 0 && status != "cancelled" {
            let why = "the backfill is cancelled; it cannot be changed any more";
            let kind = domain::ErrorKind::FailedPrecondition;
            return Err(rpc::status::to_status(kind, "BACKFILL_ENDED", why.into(), &[]));
        }
        Ok(Response::new(ChangeBackfillResponse {}))
    }

    type WatchChangesStream = std::pin::Pin<Box<dyn Stream<Item = Result<WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(
        &self,
        _: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let news = BroadcastStream::new(self.changes.subscribe());
        Ok(Response::new(Box::pin(news.map(|change| change.map_err(|e| Status::internal(e.to_string()))))))
    }
}
