//! Inputs before an attempt and outputs after it, where they are not on a disk that executors share; and the outputs that
//! code asks for by name.
//!
//! A store that is away is waited for: what was computed is not lost because of it. Refuses to know what outputs hold.

use super::{ProcessBackend, chain, given};
use crate::{
    attempt::{Attempt, AttemptId, failed},
    attempts::{Mail, stop_asked},
    bundles::Bundles,
    core::CoreEvent,
    logs::{AttemptLog, Masks},
    outputs::{Error, Outputs, Place, Secrets},
};
use domain::ErrorKind;
use proto::internal::v1::{self as pb, result::Outcome};
use runtime::backoff::{self, Backoff};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// How long a store may be away while an attempt waits for it; the attempt holds its slot.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two tries, besides those of the store's client.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The executor's own question to the cluster, which no code of a block may ask, and its number: those of code are
/// positive, and no other question of the executor has it.
pub(crate) const PLACE_SECRETS: &str = "place_secrets";
const OWN_CALL: i64 = -2;
/// What a block's first return value is called.
const FIRST_OUTPUT: &str = "output_0";

impl ProcessBackend {
    /// Where the attempt's outputs go, with its inputs on this disk.
    pub(super) async fn bring_inputs(
        &self,
        attempt: &Attempt,
        log: &AttemptLog,
        secrets: &Secrets,
    ) -> Result<Place, Outcome> {
        let place = self.place(&attempt.definition.bundle_digest, secrets, log.masks()).await;
        let place = place.map_err(|error| broken(&error))?;
        if place.is_remote() {
            let (inputs, mut patience) = (inputs(attempt), Patience::new(log));
            while let Err(error) = self.parts.outputs.fetch(&attempt.id, &place, &inputs).await {
                patience.after(error).await.map_err(|error| lost(&error))?;
            }
        }
        Ok(place)
    }

    async fn place(&self, bundle_digest: &str, secrets: &Secrets, masks: &Arc<Masks>) -> Result<Place, NoPlace> {
        place(&self.parts.bundles, &self.parts.outputs, bundle_digest, secrets, masks).await
    }

    /// Sends what a completed attempt wrote, and only then lets its result go. Everything else leaves nothing.
    pub(super) async fn keep_outputs(
        &self,
        attempt: &Attempt,
        place: &Place,
        outcome: Outcome,
        log: &AttemptLog,
        mail: &mut Mail,
    ) -> Outcome {
        if !place.is_remote() {
            return outcome;
        }
        let kept = match outcome {
            Outcome::Completed(completed) if !completed.outputs.is_empty() => {
                self.sent(attempt, place, completed, log, mail).await
            }
            outcome => outcome,
        };
        if !matches!(kept, Outcome::Completed(_)) {
            let (outputs, attempt) = (Arc::clone(&self.parts.outputs), attempt.id.clone());
            // Apart from the result, which must not wait for a store that is away.
            tokio::spawn(async move {
                if let Err(error) = outputs.discard(&attempt).await {
                    tracing::warn!(%attempt, error = chain(&error), "failed to discard the outputs of an attempt");
                }
            });
        }
        kept
    }

    async fn sent(
        &self,
        attempt: &Attempt,
        place: &Place,
        mut completed: pb::Completed,
        log: &AttemptLog,
        mail: &mut Mail,
    ) -> Outcome {
        completed.store = place.address().to_owned();
        tokio::select! {
            biased;
            _ = stop_asked(&mut mail.order) => Outcome::Cancelled(pb::Cancelled {}),
            sent = self.send_outputs(attempt, place, log) => match sent {
                Ok(()) => Outcome::Completed(completed),
                Err(error) => lost(&error),
            },
        }
    }

    async fn send_outputs(&self, attempt: &Attempt, place: &Place, log: &AttemptLog) -> Result<(), Error> {
        let mut patience = Patience::new(log);
        while let Err(error) = self.parts.outputs.send(&attempt.id, place).await {
            patience.after(error).await?;
        }
        Ok(())
    }

    pub(super) fn own_variable(&self, attempt: &Attempt, place: &Place, arguments: &Value) -> Option<Value> {
        let run = attempt.assignment.run.as_ref()?;
        // Without a partition the latest completed run is meant, which only the cluster knows.
        let same_run = arguments["pipeline_uuid"] == run.pipeline.as_str()
            && arguments["partition"] == run.execution_partition.as_str();
        let block = arguments["block_uuid"].as_str().filter(|_| same_run)?;
        let given = attempt.assignment.inputs.iter().filter(|input| input.block == block);
        let committed = given.flat_map(|input| &input.outputs).find(|output| output.child < 0);
        let folder = match committed {
            Some(output) => place.folder(attempt.id.run, block, output.child, output.lease),
            None => self.parts.outputs.newest(place, attempt.id.run, block, -1)?,
        };
        Some(json!({ "dir": folder, "name": arguments["variable_uuid"].as_str().unwrap_or(FIRST_OUTPUT) }))
    }

    /// The outputs of an attempt that the cluster named in answer to `get_variable`: `run_id`, `block`, `child`, `lease`,
    /// `bundle` and `place`, the secrets that say where they are, brought to this disk for `reader`, of this workspace. Anything else is passed on as it is.
    ///
    /// # Errors
    /// When they cannot be brought here, for user code to read.
    pub(super) async fn bring_named(
        &self,
        workspace: &str,
        reader: &AttemptId,
        answer: Value,
    ) -> Result<Value, String> {
        let run = answer["run_id"].as_str().and_then(|run| run.parse().ok());
        let (Some(run), Some(block), Some(lease)) = (run, answer["block"].as_str(), answer["lease"].as_i64()) else {
            return Ok(answer);
        };
        // What another run wrote may hold what that run was given.
        let masks = self.parts.logs.masks_of(workspace);
        if !given::values(&answer).all(|value| masks.add(value)) {
            return Err(
                "this executor knows too many secrets to hide those of that run; it must be started again".to_owned()
            );
        }
        let child = answer["child"].as_i64().and_then(|child| i32::try_from(child).ok()).unwrap_or(-1);
        let (bundle, secrets) = (answer["bundle"].as_str().unwrap_or_default(), values(&answer["place"]));
        let place = self.place(bundle, &secrets, &masks).await.map_err(|error| chain(&error))?;
        let wanted = AttemptId { run, block: block.to_owned(), child, lease };
        let folder = place.folder(run, block, child, lease);
        let fetched = self.parts.outputs.fetch(reader, &place, &[wanted]).await;
        fetched.map_err(|error| chain(&error))?;
        Ok(json!({ "dir": folder, "name": answer["name"].as_str().unwrap_or(FIRST_OUTPUT) }))
    }
}

/// Where the outputs of a bundle's project are; what names it is masked by these.
pub(crate) async fn place(
    bundles: &Bundles,
    outputs: &Outputs,
    bundle_digest: &str,
    secrets: &Secrets,
    masks: &Arc<Masks>,
) -> Result<Place, NoPlace> {
    let wanted = bundles.outputs_place(bundle_digest).await?;
    Ok(outputs.place(&wanted, secrets, masks)?)
}

/// The secrets that say where the outputs of an attempt go: asked for by the attempt before its code runs, and so each time
/// anew. Most projects name none, and nobody is asked.
pub(crate) async fn secrets(
    attempt: &Attempt,
    core: &mpsc::Sender<CoreEvent>,
    replies: &mut mpsc::Receiver<Value>,
) -> Result<Secrets, NoPlace> {
    if attempt.definition.pipeline.place_secrets.is_empty() {
        return Ok(Secrets::new());
    }
    let (id, method) = (attempt.id.clone(), PLACE_SECRETS.to_owned());
    // The core has ended only when the process ends.
    let _ = core.send(CoreEvent::Call { id, call_id: OWN_CALL, method, arguments: json!({}) }).await;
    loop {
        match replies.recv().await {
            Some(reply) if reply["id"] == OWN_CALL => {
                return match reply["error"].as_str() {
                    Some(error) => Err(NoPlace::Unanswered(error.to_owned())),
                    None => Ok(values(&reply["result"])),
                };
            }
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

fn values(secrets: &Value) -> Secrets {
    let fields = secrets.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// The committed attempts that an attempt reads.
fn inputs(attempt: &Attempt) -> Vec<AttemptId> {
    let parts = attempt.assignment.inputs.iter().flat_map(|input| input.outputs.iter().map(move |part| (input, part)));
    parts
        .map(|(input, part)| AttemptId {
            run: attempt.id.run,
            block: input.block.clone(),
            child: part.child,
            lease: part.lease,
        })
        .collect()
}

/// Tries again while the store is away; every other error is final.
struct Patience<'a> {
    log: &'a AttemptLog,
    until: Instant,
    pause: Backoff,
}

impl<'a> Patience<'a> {
    fn new(log: &'a AttemptLog) -> Self {
        Self { log, until: Instant::now() + PATIENCE, pause: Backoff::new(BACKOFF.0, BACKOFF.1) }
    }

    /// Waits for the time of the next try, or answers the error that ends it.
    async fn after(&mut self, error: Error) -> Result<(), Error> {
        if error.kind() != ErrorKind::Unavailable || Instant::now() >= self.until {
            return Err(error);
        }
        self.log.system("WARNING", &format!("{}; trying again", chain(&error)));
        tokio::time::sleep(self.pause.next(backoff::random())).await;
        Ok(())
    }
}

/// Why it is not known where outputs go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPlace {
    /// The bundle's metadata cannot be read.
    #[error("read where the project keeps its outputs")]
    Bundle(#[from] crate::bundles::Error),
    /// The cluster does not give its secrets.
    #[error("ask for the secrets that say where the project keeps its outputs: {0}")]
    Unanswered(String),
    /// Its place cannot be used.
    #[error(transparent)]
    Place(#[from] Error),
}

pub(crate) fn broken(error: &NoPlace) -> Outcome {
    let full = matches!(error, NoPlace::Bundle(error) if error.is_disk_full());
    failed(if full { "DISK_FULL" } else { "ENVIRONMENT" }, chain(error))
}

fn lost(error: &Error) -> Outcome {
    let code = if error.kind() == ErrorKind::ResourceExhausted { "DISK_FULL" } else { "OUTPUT" };
    failed(code, chain(error))
}
