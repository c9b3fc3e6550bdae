//! What decides that outputs go: a period of the project, or a person. Runs say that their outputs are gone at once;
//! executors, who alone have the credentials, ask here what to remove and tell when it is done.
//!
//! Any scheduler may do any of it, several at once: every statement takes only rows that nobody else holds, of runs that
//! have ended, so no shard's epoch is needed.

use crate::values;
use domain::id::{PipelineId, RunId};
use jiff::Timestamp;
use proto::internal::v1::{self as pb, output_removal_service_server::OutputRemovalService};
use secrets::Keyring;
use std::{sync::Arc, time::Duration};
use store::{Error, Store, forget, outputs};
use tonic::{Request, Response, Status};

/// Between the mark of a run and the first removal of a file: longer than a retry needs from its look to its commit.
const GRACE: Duration = Duration::from_secs(60);
/// For an executor to remove what it has claimed.
const LEASE: Duration = Duration::from_secs(600);
/// Runs of one statement.
const BATCH: i64 = 500;
/// Statements of one request or round.
const BATCHES_MAX: usize = 20;
/// Firings that one round forgets.
const FIRINGS_MAX: i64 = 10_000;
/// Removals that one executor may claim at once.
const CLAIM_MAX: i64 = 100;

/// Outputs of one pipeline that go.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// Whose.
    pub pipeline: PipelineId,
    /// Of runs that ended before.
    pub before: Timestamp,
}

impl Due {
    /// Reads the wire form; `None` when it is malformed.
    #[must_use]
    pub fn from_proto(due: &pb::ExpireOutputsOf) -> Option<Self> {
        let before = Timestamp::from_microsecond(due.before_us).ok()?;
        Some(Self { pipeline: PipelineId::from_slice(&due.pipeline_id)?, before })
    }
}

/// Marks and requests, up to a limit; answers how many runs, and whether there may be more.
///
/// # Errors
/// When the database does not answer; what was marked until then stays marked.
pub async fn expire(store: &Store, due: impl Iterator<Item = Due>) -> Result<(i64, bool), Error> {
    let (mut runs, mut batches) = (0, 0);
    for due in due {
        loop {
            if batches == BATCHES_MAX {
                return Ok((runs, true));
            }
            batches += 1;
            let marked = outputs::request(store, due.pipeline, due.before, GRACE, BATCH).await?;
            runs += marked;
            if marked < BATCH {
                break;
            }
        }
    }
    Ok((runs, false))
}

/// What one round took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs that lost their outputs.
    pub expired: i64,
    /// Runs that are forgotten.
    pub forgotten: i64,
    /// Firings that are.
    pub firings: u64,
}

/// One round for every pipeline. Runs are kept for `runs_kept` where their pipeline says nothing; zero is for ever. The
/// outputs of a run go before it does.
///
/// # Errors
/// When the database does not answer.
pub async fn run_once(store: &Store, now: Timestamp, runs_kept: Duration) -> Result<Report, Error> {
    let client = store.client().await?;
    let retentions = outputs::retentions(&client, None, None).await?;
    drop(client);
    let default = Some(runs_kept).filter(|kept| !kept.is_zero());
    let before = |period: Option<Duration>| now.checked_sub(period?).ok();
    let runs_period = |kept: &outputs::Retention| kept.runs_period.or(default);
    let due = retentions.iter().filter_map(|kept| {
        let before = before([kept.period, runs_period(kept)].into_iter().flatten().min())?;
        Some(Due { pipeline: kept.pipeline, before })
    });
    let (expired, _) = expire(store, due).await?;
    let (mut forgotten, mut batches) = (0, 0);
    for kept in &retentions {
        let Some(before) = before(runs_period(kept)) else { continue };
        while batches < BATCHES_MAX {
            batches += 1;
            let runs = forget::runs(store, kept.pipeline, before, BATCH).await?;
            forgotten += runs;
            if runs < BATCH {
                break;
            }
        }
    }
    // As long as the longest-kept run, so that what is looked through is what can go.
    let longest = retentions.iter().filter_map(runs_period).chain(default).max();
    let firings = match longest {
        Some(kept) if default.is_some() => forget::firings(store, kept, FIRINGS_MAX).await?,
        _ => 0,
    };
    Ok(Report { expired, forgotten, firings })
}

/// Serves executors.
#[derive(Clone)]
pub struct Removals {
    store: Store,
    keyring: Option<Arc<Keyring>>,
}

impl Removals {
    /// Reads and writes the database; `keyring` opens the secrets that say where outputs are.
    #[must_use]
    pub fn new(store: Store, keyring: Option<Arc<Keyring>>) -> Self {
        Self { store, keyring }
    }
}

fn status(error: &Error) -> Status {
    rpc::status::to_status(error.kind(), "DATABASE", error.to_string(), &[])
}

#[tonic::async_trait]
impl OutputRemovalService for Removals {
    async fn claim_removals(
        &self,
        request: Request<pb::ClaimRemovalsRequest>,
    ) -> Result<Response<pb::ClaimRemovalsResponse>, Status> {
        let limit = i64::from(request.into_inner().limit).clamp(0, CLAIM_MAX);
        let claimed = outputs::claim(&self.store, limit, LEASE).await.map_err(|error| status(&error))?;
        let runs: Vec<RunId> = claimed.iter().map(|removal| removal.run).collect();
        let secrets = values::of_places(&self.store, self.keyring.as_deref(), &runs).await;
        let mut secrets = secrets.map_err(|error| status(&error))?;
        let removals = claimed
            .into_iter()
            .map(|removal| pb::Removal {
                run_id: removal.run.to_vec(),
                bundle_digest: removal.bundle_digest,
                secrets: secrets.remove(&removal.run).unwrap_or_default().into_iter().collect(),
            })
            .collect();
        Ok(Response::new(pb::ClaimRemovalsResponse { removals }))
    }

    async fn report_removals(
        &self,
        request: Request<pb::ReportRemovalsRequest>,
    ) -> Result<Response<pb::ReportRemovalsResponse>, Status> {
        let request = request.into_inner();
        let removed: Vec<RunId> = request.removed_run_ids.iter().filter_map(|id| RunId::from_slice(id)).collect();
        let failures: Vec<(RunId, String)> = request
            .failures
            .into_iter()
            .filter_map(|failure| Some((RunId::from_slice(&failure.run_id)?, failure.error)))
            .collect();
        outputs::removed(&self.store, &removed).await.map_err(|error| status(&error))?;
        outputs::not_removed(&self.store, &failures).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::ReportRemovalsResponse {}))
    }
}
