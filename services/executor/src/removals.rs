//! Removes outputs that are older than their project keeps them: asks a scheduler which may go, removes them, and says so.
//! Refuses to decide what goes.

use crate::{bundles::Bundles, outputs::Outputs};
use domain::id::RunId;
use futures_util::{StreamExt, stream};
use proto::internal::v1::{self as pb, output_removal_service_client::OutputRemovalServiceClient};
use rpc::client::{Channel, Dialer, within};
use runtime::watchdog::Beat;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Between two questions while there is nothing to remove.
const INTERVAL: Duration = Duration::from_secs(30);
/// Runs that are claimed at once.
const CLAIM: i32 = 50;
/// Runs that are removed at once.
const AT_ONCE: usize = 4;
/// For one answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// For one run: below the time after which somebody else may take it.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);

/// See the module's page.
pub struct Remover {
    dialer: Dialer,
    bundles: Arc<Bundles>,
    outputs: Arc<Outputs>,
}

impl Remover {
    /// Asks one scheduler after the other, over a connection that lasts as long as there is something to remove.
    #[must_use]
    pub fn new(dialer: Dialer, bundles: Arc<Bundles>, outputs: Arc<Outputs>) -> Self {
        Self { dialer, bundles, outputs }
    }

    /// Removes until it is stopped. What is half removed then is claimed again by somebody.
    pub async fn run(mut self, stop: CancellationToken, beat: Beat) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = beat.waiting(interval.tick()) => {}
            }
            let mut client = OutputRemovalServiceClient::new(self.dialer.dial());
            loop {
                let claimed = tokio::select! {
                    () = stop.cancelled() => return,
                    // Each call and each run has its deadline.
                    claimed = beat.waiting(self.run_once(&mut client)) => claimed,
                };
                match claimed {
                    Ok(claimed) if claimed >= usize::try_from(CLAIM).unwrap_or(0) => {}
                    Ok(_) => break,
                    Err(status) => {
                        tracing::debug!(code = ?status.code(), message = status.message(), "no scheduler says what to remove");
                        break;
                    }
                }
            }
        }
    }

    /// One batch; answers how many runs it was.
    async fn run_once(&self, client: &mut OutputRemovalServiceClient<Channel>) -> Result<usize, tonic::Status> {
        let request = within(CALL_TIMEOUT, pb::ClaimRemovalsRequest { limit: CLAIM });
        let removals = client.claim_removals(request).await?.into_inner().removals;
        if removals.is_empty() {
            return Ok(0);
        }
        let (claimed, mut report) = (removals.len(), pb::ReportRemovalsRequest::default());
        let works: Vec<_> = removals.iter().map(|removal| self.remove(removal)).collect();
        let outcomes: Vec<_> = stream::iter(works).buffered(AT_ONCE).collect().await;
        for (removal, outcome) in removals.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => report.removed_run_ids.push(removal.run_id),
                Err(error) => {
                    tracing::warn!(error, "failed to remove outputs; they come again later");
                    report.failures.push(pb::RemovalFailure { run_id: removal.run_id, error });
                }
            }
        }
        tracing::info!(runs = report.removed_run_ids.len(), "removed outputs that were older than they are kept");
        client.report_removals(within(CALL_TIMEOUT, report)).await?;
        Ok(claimed)
    }

    async fn remove(&self, removal: &pb::Removal) -> Result<(), String> {
        let run = RunId::from_slice(&removal.run_id).ok_or("the removal names no run")?;
        let remove = async {
            let wanted = self.bundles.outputs_place(&removal.bundle_digest).await.map_err(|e| told(&e))?;
            let secrets = removal.secrets.clone().into_iter().collect();
            let place = self.outputs.place(&wanted, &secrets, &Arc::default()).map_err(|e| told(&e))?;
            self.outputs.remove_run(run, &place).await.map_err(|e| told(&e))
        };
        match tokio::time::timeout(RUN_TIMEOUT, remove).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("the outputs of run {run} could not be removed within {} s", RUN_TIMEOUT.as_secs())),
        }
    }
}

fn told(error: &dyn std::error::Error) -> String {
    runtime::exit::chain(error)
}
