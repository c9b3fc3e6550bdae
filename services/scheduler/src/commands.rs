//! Commands from web-servers, as gRPC.

use crate::{
    changes::{Changes, News},
    engine::{
        CancelRun, ChangeBackfill, CreateBackfill, CreateRun, Created, EngineError, FiredTrigger, Repeated, RetryRun,
    },
    log_retention::LogRetention,
    notification_test,
    orders::{Hop, Orders, status},
    retention,
    wire::AttemptId,
};
use domain::{
    backfill::{Length, Order, Unit},
    id::{BackfillId, PipelineId, RunId, TriggerId, WorkspaceId},
    trigger::{TimeoutStatus, key},
};
use jiff::Timestamp;
use proto::internal::v1::{self as pb, command_service_server::CommandService};
use std::{pin::Pin, time::Duration};
use store::{Store, backfills::Spec, logs::Partition};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// Runs created by one request.
const CREATE_MAX: usize = 1_000;
/// Notices that one web-server has not read.
const NOTICES_MAX: usize = 64;
/// Between two notices to one web-server, unless a run has ended.
const NOTICE_PAUSE: Duration = Duration::from_millis(5);

/// Serves web-servers.
#[derive(Clone)]
pub struct Commands {
    orders: Orders,
    store: Store,
    changes: Changes,
    log_retention: LogRetention,
}

impl Commands {
    /// Passes commands on to their owners.
    #[must_use]
    pub fn new(orders: Orders, store: Store, changes: Changes, log_retention: LogRetention) -> Self {
        Self { orders, store, changes, log_retention }
    }
}

fn run_id(bytes: &[u8]) -> Result<RunId, Status> {
    RunId::from_slice(bytes).ok_or_else(|| Status::invalid_argument("run_id must be 16 bytes"))
}

#[tonic::async_trait]
impl CommandService for Commands {
    async fn create_runs(
        &self,
        request: Request<pb::CreateRunsRequest>,
    ) -> Result<Response<pb::CreateRunsResponse>, Status> {
        let pb::CreateRunsRequest { runs, forwarded } = request.into_inner();
        if runs.len() > CREATE_MAX {
            return Err(Status::invalid_argument(format!("at most {CREATE_MAX} runs in one request")));
        }
        let commands = runs.into_iter().map(create).collect::<Result<Vec<_>, _>>()?;
        let ids = self.orders.create(commands, Hop::of(forwarded)).await?;
        let mut answer = pb::CreateRunsResponse::default();
        for created in ids {
            let (run, reason) = match created {
                Created::Run(run) => (run.to_vec(), String::new()),
                Created::Not(reason) => (Vec::new(), reason),
            };
            answer.run_ids.push(run);
            answer.skipped.push(reason);
        }
        if answer.skipped.iter().all(String::is_empty) {
            answer.skipped.clear();
        }
        Ok(Response::new(answer))
    }

    async fn create_backfill(
        &self,
        request: Request<pb::CreateBackfillRequest>,
    ) -> Result<Response<pb::CreateBackfillResponse>, Status> {
        let request = request.into_inner();
        let hop = Hop::of(request.forwarded);
        let id = self.orders.create_backfill((backfill(&request).await?, request), hop).await?;
        Ok(Response::new(pb::CreateBackfillResponse { backfill_id: id.to_vec() }))
    }

    async fn change_backfill(
        &self,
        request: Request<pb::ChangeBackfillRequest>,
    ) -> Result<Response<pb::ChangeBackfillResponse>, Status> {
        let request = request.into_inner();
        let hop = Hop::of(request.forwarded);
        let id = BackfillId::from_slice(&request.backfill_id)
            .ok_or_else(|| Status::invalid_argument("backfill_id must be 16 bytes"))?;
        let change = match request.change() {
            pb::BackfillChange::Pause => ChangeBackfill::Pause,
            pb::BackfillChange::Resume => ChangeBackfill::Resume,
            pb::BackfillChange::Cancel => ChangeBackfill::Cancel,
            pb::BackfillChange::Unspecified => return Err(Status::invalid_argument("change must be set")),
        };
        self.orders.change_backfill((id, change, request), hop).await?;
        Ok(Response::new(pb::ChangeBackfillResponse {}))
    }

    async fn cancel_run(
        &self,
        request: Request<pb::CancelRunRequest>,
    ) -> Result<Response<pb::CancelRunResponse>, Status> {
        let request = request.into_inner();
        let command = CancelRun { run: run_id(&request.run_id)?, reason: request.reason };
        self.orders.cancel(command, Hop::of(request.forwarded)).await?;
        Ok(Response::new(pb::CancelRunResponse {}))
    }

    async fn retry_run(&self, request: Request<pb::RetryRunRequest>) -> Result<Response<pb::RetryRunResponse>, Status> {
        let request = request.into_inner();
        let run = run_id(&request.run_id)?;
        let hop = Hop::of(request.forwarded);
        let run = match proto::v1::RetryMode::try_from(request.mode) {
            Ok(proto::v1::RetryMode::Whole) => self.repeat(run, request.logical_key, hop).await?,
            Ok(proto::v1::RetryMode::Incomplete) => {
                self.again(RetryRun { run, from_block: None, key: request.logical_key }, hop).await?
            }
            Ok(proto::v1::RetryMode::FromBlock) => {
                let (from_block, key) = (Some(request.from_block), request.logical_key);
                self.again(RetryRun { run, from_block, key }, hop).await?
            }
            _ => return Err(Status::invalid_argument("mode must be WHOLE, INCOMPLETE or FROM_BLOCK")),
        };
        Ok(Response::new(pb::RetryRunResponse { run_id: run.to_vec() }))
    }

    async fn expire_outputs(
        &self,
        request: Request<pb::ExpireOutputsRequest>,
    ) -> Result<Response<pb::ExpireOutputsResponse>, Status> {
        let pipelines = request.into_inner().pipelines;
        let expired = retention::expire(&self.store, pipelines.iter().filter_map(retention::Due::from_proto)).await;
        let (runs, more) =
            expired.map_err(|error| rpc::status::to_status(error.kind(), "DATABASE", error.to_string(), &[]))?;
        Ok(Response::new(pb::ExpireOutputsResponse { runs, more }))
    }

    async fn clean_logs(
        &self,
        request: Request<pb::CleanLogsRequest>,
    ) -> Result<Response<pb::CleanLogsResponse>, Status> {
        let pb::CleanLogsRequest { before_us, dry_run } = request.into_inner();
        let before = before_us.map(Timestamp::from_microsecond).transpose();
        let before = before.map_err(|_| invalid("before_us must be an instant"))?;
        let expired = match dry_run {
            true => self.log_retention.expired(before).await,
            false => self.log_retention.drop_expired(before).await,
        };
        let expired =
            expired.map_err(|error| rpc::status::to_status(error.kind(), "LOG_RETENTION", error.to_string(), &[]))?;
        let day = |day: Partition| pb::LogDay { name: day.name, size_bytes: day.bytes };
        let days = expired.days.into_iter().map(day).collect();
        Ok(Response::new(pb::CleanLogsResponse { days, before_us: expired.before.as_microsecond() }))
    }

    async fn resume_attempt(
        &self,
        request: Request<pb::ResumeAttemptRequest>,
    ) -> Result<Response<pb::ResumeAttemptResponse>, Status> {
        let request = request.into_inner();
        let attempt = request.attempt.and_then(AttemptId::from_proto);
        let attempt = attempt.ok_or_else(|| invalid("attempt must name a run, a block and a lease"))?;
        let resumed = self.orders.resume(&attempt, Hop::of(request.forwarded)).await?;
        Ok(Response::new(pb::ResumeAttemptResponse { resumed }))
    }

    async fn test_notification(
        &self,
        request: Request<pb::TestNotificationRequest>,
    ) -> Result<Response<pb::TestNotificationResponse>, Status> {
        let request = request.into_inner();
        let workspace = WorkspaceId::from_slice(&request.workspace_id)
            .ok_or_else(|| Status::invalid_argument("workspace_id must be 16 bytes"))?;
        let pipeline = PipelineId::from_slice(&request.pipeline_id);
        let noted = notification_test::note(&self.store, workspace, pipeline).await;
        let notifications = noted.map_err(|_| status(&EngineError::Unavailable))?;
        Ok(Response::new(pb::TestNotificationResponse { notifications }))
    }

    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(
        &self,
        _: Request<pb::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let mut notices = self.changes.subscribe();
        let (sender, receiver) = mpsc::channel(NOTICES_MAX);
        tokio::spawn(async move {
            // Readers show changes a few times a second: what follows soon is told as one, but an end at once.
            let mut gathered = Instant::now();
            while let Some(news) = News::next(&mut notices, gathered).await {
                let answer = pb::WatchChangesResponse {
                    run_ids: news.runs.iter().map(|run| run.to_vec()).collect(),
                    overflow: news.overflow,
                    logged_run_ids: news.logged.iter().map(|run| run.to_vec()).collect(),
                    ended_run_ids: news.ended.iter().map(|run| run.to_vec()).collect(),
                };
                if sender.send(answer).await.is_err() {
                    break;
                }
                gathered = Instant::now() + NOTICE_PAUSE;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }
}

impl Commands {
    async fn again(&self, command: RetryRun, hop: Hop) -> Result<RunId, Status> {
        let run = command.run;
        self.orders.retry(command, hop).await?;
        Ok(run)
    }

    /// A new run of the same pipeline, in its version in force, with everything that the former one was told and made by.
    async fn repeat(&self, run: RunId, logical_key: String, hop: Hop) -> Result<RunId, Status> {
        let stored = store::runs::one(&self.store, run)
            .await
            .map_err(|_| status(&EngineError::Unavailable))?
            .ok_or_else(|| status(&EngineError::NoRun(run)))?;
        let command = CreateRun {
            pipeline: stored.pipeline_id,
            logical_key: key::of_repetition(run, &logical_key),
            variables: stored.variables.to_string(),
            execution_date: Some(stored.execution_date),
            timeout_s: stored.options.timeout_s,
            allow_blocks_to_fail: stored.options.allow_blocks_to_fail,
            parent: Some(run),
            traceparent: rpc::trace::current(),
            trigger: None,
            repeats: Some(Repeated {
                trigger: stored.trigger_id,
                backfill: stored.backfill_id,
                event_variables: stored.event_variables.map(|told| told.to_string()),
                timeout_cancels: stored.options.timeout_status == TimeoutStatus::Cancelled,
            }),
        };
        let created = self.orders.create(vec![command], hop).await?;
        created.first().and_then(Created::run).ok_or_else(|| Status::internal("the engine answered no run"))
    }
}

fn create(run: pb::NewRun) -> Result<CreateRun, Status> {
    let pipeline = PipelineId::from_slice(&run.pipeline_id)
        .ok_or_else(|| Status::invalid_argument("pipeline_id must be 16 bytes"))?;
    let execution_date = run.execution_date_us.map(Timestamp::from_microsecond).transpose();
    let execution_date = execution_date.map_err(|e| Status::invalid_argument(e.to_string()))?;
    let event_variables = Some(run.event_variables).filter(|json| !json.is_empty());
    let trigger_id = |bytes: &[u8]| {
        TriggerId::from_slice(bytes).ok_or_else(|| invalid("the id of a trigger must be 16 bytes or empty"))
    };
    Ok(CreateRun {
        pipeline,
        logical_key: run.logical_key,
        variables: run.variables,
        execution_date,
        timeout_s: u32::try_from(run.timeout_s).ok().filter(|s| *s > 0),
        allow_blocks_to_fail: run.allow_blocks_to_fail,
        parent: match run.parent_run_id.as_slice() {
            [] => None,
            parent => Some(run_id(parent)?),
        },
        traceparent: rpc::trace::current(),
        trigger: match run.trigger_id.as_slice() {
            [] => None,
            id => Some(FiredTrigger {
                id: trigger_id(id)?,
                version: run.trigger_version,
                event_variables: event_variables.clone(),
                rate: Some((run.called_by, run.calls_per_second)).filter(|(caller, _)| !caller.is_empty()),
            }),
        },
        repeats: match run.repeated_trigger_id.as_slice() {
            [] => None,
            id => Some(Repeated {
                trigger: trigger_id(id)?,
                backfill: match run.repeated_backfill_id.as_slice() {
                    [] => None,
                    id => Some(BackfillId::from_slice(id).ok_or_else(|| invalid("a backfill's id must be 16 bytes"))?),
                },
                event_variables,
                timeout_cancels: run.timeout_cancels,
            }),
        },
    })
}

fn length(request: &pb::CreateBackfillRequest) -> Result<Length, Status> {
    use proto::v1::IntervalUnit as Wire;
    let unit = match Wire::try_from(request.unit).unwrap_or(Wire::Unspecified) {
        Wire::Second => Unit::Second,
        Wire::Minute => Unit::Minute,
        Wire::Hour => Unit::Hour,
        Wire::Day => Unit::Day,
        Wire::Week => Unit::Week,
        Wire::Month => Unit::Month,
        Wire::Year => Unit::Year,
        Wire::Cron => return Ok(Length::Cron(request.cron.clone())),
        Wire::Unspecified => return Err(invalid("unit must be set")),
    };
    let every = u32::try_from(request.every).map_err(|_| invalid("every must be above 0"))?;
    Ok(Length::Units(unit, every))
}

fn invalid(what: &str) -> Status {
    Status::invalid_argument(what.to_owned())
}

async fn backfill(request: &pb::CreateBackfillRequest) -> Result<CreateBackfill, Status> {
    let at = |us| Timestamp::from_microsecond(us).map_err(|e| Status::invalid_argument(e.to_string()));
    let spec = Spec {
        name: request.name.clone(),
        start_at: at(request.start_us)?,
        end_at: at(request.end_us)?,
        length: length(request)?,
        time_zone: request.time_zone.clone(),
        order: if request.descending { Order::Descending } else { Order::Ascending },
        parallelism: u32::try_from(request.parallelism).map_err(|_| invalid("parallelism must be above 0"))?,
        variables: serde_json::from_str(&request.variables).map_err(|e| Status::invalid_argument(e.to_string()))?,
        allow_blocks_to_fail: request.allow_blocks_to_fail,
    };
    let pipeline =
        PipelineId::from_slice(&request.pipeline_id).ok_or_else(|| invalid("pipeline_id must be 16 bytes"))?;
    // Times of a cron expression are counted one by one, which is nothing for the engine's turn.
    let created = tokio::task::spawn_blocking(move || CreateBackfill::new(pipeline, spec));
    let created = created.await.map_err(|_| Status::internal("the intervals could not be counted"))?;
    created.map_err(|error| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::new_run;

    #[test]
    fn what_is_made_again_is_the_same_at_the_owner_elsewhere() {
        let plain = create(pb::NewRun { pipeline_id: vec![7; 16], ..pb::NewRun::default() }).unwrap();
        assert_eq!(plain.repeats, None);
        for backfill in [None, Some(BackfillId::new_in(7))] {
            let repeats = Some(Repeated {
                trigger: TriggerId(backfill.map_or(uuid::Uuid::nil(), |backfill| backfill.0)),
                backfill,
                event_variables: backfill.map(|_| "{}".to_owned()),
                timeout_cancels: backfill.is_some(),
            });
            let run = CreateRun { repeats: repeats.clone(), parent: Some(RunId::new_in(7)), ..plain.clone() };
            let there = create(new_run(&run)).unwrap();
            assert_eq!((there.repeats, there.parent), (repeats, run.parent));
        }
    }

    #[test]
    fn the_first_instant_of_1970_is_one_and_nothing_is_now() {
        let date = |us| {
            let run = pb::NewRun { pipeline_id: vec![0; 16], execution_date_us: us, ..pb::NewRun::default() };
            create(run).unwrap().execution_date
        };
        assert_eq!(date(Some(0)), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(date(None), None);
    }
}
