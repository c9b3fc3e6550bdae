//! Attempts on the process backend: code, environment, a forked child, and its supervision to the end.

mod given;
mod homes;
mod job_child;
pub(crate) mod keeping;
mod notes;
pub(crate) mod outcome;
mod printing;
mod said;

use crate::{
    attempt::{Attempt, AttemptId, failed},
    attempts::{Attempts, Mail, span, stop_asked},
    bundles::Bundles,
    core::CoreEvent,
    job,
    journal::Journal,
    logs::{AttemptLog, LogQueue, mask::Held},
    outputs::{Outputs, Place, Secrets},
    views::Views,
};
use backend_process::{
    Environment, Environments, Spawn, Sweeper, Zygotes,
    child::Limits,
    process::{ATTEMPT_MARK, EXECUTOR_MARK},
};
use domain::id::RunId;
use homes::Homes;
use job_child::JobChild;
use proto::internal::v1::{self as pb, result::Outcome};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument as _;

/// At the deadline of a drain, for killed processes to be gone.
const LAST_WORDS: Duration = Duration::from_millis(400);
/// Between SIGTERM and SIGKILL when an attempt takes too long.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// Longest time limit of an attempt.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Lines of an installer that the log has not taken.
const PROGRESS_MAX: usize = 256;
/// Shortest and longest time between two looks for what is kept and not needed.
const TIDY_INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Variables of the executor's own environment that every attempt sees.
const PASSED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// The call that asks for the outputs of another block.
pub(crate) const GET_VARIABLE: &str = "get_variable";

/// Limits of every attempt.
#[derive(Debug, Clone)]
pub struct AttemptLimits {
    /// Memory of a child beyond the warm interpreter, bytes.
    pub memory_bytes: Option<u64>,
    /// Text that one attempt may log, bytes.
    pub log_bytes: u64,
}

/// What the process backend is made of.
pub struct Parts {
    /// Environments of projects.
    pub environments: Environments,
    /// Warm interpreters.
    pub zygotes: Zygotes,
    /// How long one is kept that no attempt uses.
    pub zygote_idle: Duration,
    /// Kills what attempts leave behind.
    pub sweeper: Arc<Sweeper>,
    /// Code.
    pub bundles: Arc<Bundles>,
    /// Its copies, which attempts may write to.
    pub views: Views,
    /// Where attempts write.
    pub outputs: Arc<Outputs>,
    /// This executor's own testimony.
    pub journal: Arc<Journal>,
    /// Lines on their way.
    pub logs: LogQueue,
    /// Limits.
    pub limits: AttemptLimits,
    /// Variables that every attempt sees.
    pub env: BTreeMap<String, String>,
    /// Where results and calls go.
    pub core: mpsc::Sender<CoreEvent>,
}

/// Runs attempts as Python processes.
pub struct ProcessBackend {
    parts: Parts,
    homes: Homes,
}

/// A child that waits for its job, and where the job's outputs go.
struct Prepared {
    child: JobChild,
    job: Value,
    place: Place,
}

/// What attempts see of this process's own environment: the usual, and what the settings name.
#[must_use]
pub fn passed_environment(further: &[String]) -> BTreeMap<String, String> {
    let names = PASSED.into_iter().chain(further.iter().map(String::as_str));
    names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect()
}

impl ProcessBackend {
    /// A backend that runs nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, homes: Homes::default() }
    }

    async fn outcome(&self, attempt: &Attempt, log: &AttemptLog, mail: &mut Mail) -> Outcome {
        let Mail { order, replies } = &mut *mail;
        let prepared = tokio::select! {
            biased;
            _ = stop_asked(order) => return Outcome::Cancelled(pb::Cancelled {}),
            prepared = self.ready(attempt, log, replies) => prepared,
        };
        // Held to the end, so that neither a line nor the outcome shows what the run was given.
        let (Prepared { child, job, place }, held) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return failure,
        };
        self.parts.journal.started(&attempt.id, child.pid());
        let outcome = self.supervise(attempt, child, job, (&place, held.as_ref(), mail)).await;
        let outcome = self.without_secrets(attempt, &place, outcome, (log, mail)).await;
        let outcome = self.keep_outputs(attempt, &place, outcome, log, mail).await;
        self.parts.journal.ended(&attempt.id, outcome::name(&outcome));
        outcome::masked(outcome, log.masks())
    }

    /// An attempt whose notes cannot be cleared of secrets leaves nothing.
    async fn without_secrets(
        &self,
        attempt: &Attempt,
        place: &Place,
        outcome: Outcome,
        (log, mail): (&AttemptLog, &mut Mail),
    ) -> Outcome {
        if !matches!(outcome, Outcome::Completed(_)) {
            return outcome;
        }
        let AttemptId { run, block, child, lease } = &attempt.id;
        let folder = place.folder(*run, block, *child, *lease);
        let cleared = tokio::select! {
            biased;
            _ = stop_asked(&mut mail.order) => return Outcome::Cancelled(pb::Cancelled {}),
            cleared = notes::clear(folder, log.masks()) => cleared,
        };
        match cleared {
            Ok(()) => outcome,
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => failed("DISK_FULL", error.to_string()),
            Err(error) => failed("OUTPUT", format!("the outputs' previews cannot be cleared of secrets: {error}")),
        }
    }

    /// One question after the other: the answers come the same way.
    async fn ready(
        &self,
        attempt: &Attempt,
        log: &AttemptLog,
        replies: &mut mpsc::Receiver<Value>,
    ) -> Result<(Prepared, Option<Held>), Outcome> {
        let secrets = keeping::secrets(attempt, &self.parts.core, replies).await;
        let secrets = secrets.map_err(|error| keeping::broken(&error))?;
        tokio::try_join!(self.prepare(attempt, log, &secrets), self.given(attempt, log.masks(), replies))
    }

    async fn prepare(&self, attempt: &Attempt, log: &AttemptLog, secrets: &Secrets) -> Result<Prepared, Outcome> {
        let parts = &self.parts;
        let code = |full: bool, other: &'static str| if full { "DISK_FULL" } else { other };
        let digest = &attempt.definition.bundle_digest;
        let laid = parts.bundles.ensure(digest).await;
        let laid = laid.map_err(|e| failed(code(e.is_disk_full(), "ENVIRONMENT"), chain(&e)))?;
        let view = parts.views.of(attempt.id.run, digest, &laid.project).await.map_err(|e| not_copied(&e))?;
        let place = self.bring_inputs(attempt, log, secrets).await?;
        let job = job::build(attempt, view.project(), &place).map_err(|e| failed("INTERNAL", e))?;
        if let Some(child) = self.homes.take(attempt.id.run) {
            if attempt.reads_memory() && !child.has_inputs_of(attempt) {
                child.end().await;
                return Err(attempt.without_waiting_process(self.homes.has_let_go(attempt.id.run)));
            }
            child.serve(log);
            return Ok(Prepared { child, job, place });
        }
        if attempt.reads_memory() {
            return Err(attempt.without_waiting_process(self.homes.has_let_go(attempt.id.run)));
        }
        let environment = match parts.environments.known(laid.requirements.as_deref()) {
            Some(known) => known,
            None => self.environment(attempt, laid.requirements.as_deref(), log).await?,
        };
        let zygote = parts.zygotes.get(&environment).await.map_err(|e| failed("ENVIRONMENT", chain(&e)))?;
        let mark = attempt.id.to_string();
        // Also when this future is dropped half way, the attempt is over for the sweeper.
        let living = parts.sweeper.begin(mark.clone());
        let spawn = self.spawn(attempt, view.project(), &mark);
        let child = zygote.spawn(&spawn).await.map_err(|e| failed("CRASHED", chain(&e)))?;
        Ok(Prepared { child: JobChild::new((child, zygote), living, view, log), job, place })
    }

    /// Finds or builds an environment; what the installer says goes to the attempt's log.
    async fn environment(
        &self,
        attempt: &Attempt,
        requirements: Option<&str>,
        log: &AttemptLog,
    ) -> Result<Environment, Outcome> {
        let (progress, mut lines) = mpsc::channel::<String>(PROGRESS_MAX);
        let told = log.clone();
        let relay = tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                told.system("INFO", &line);
            }
        });
        let who = format!("run {}", attempt.id.run);
        let environment = self.parts.environments.get(requirements, &who, &progress).await;
        drop(progress);
        // It ends with its sender.
        let _ = relay.await;
        environment.map_err(|e| failed(if e.is_disk_full() { "DISK_FULL" } else { "ENVIRONMENT" }, chain(&e)))
    }

    /// Lets go what is kept for the next attempt and that none has come for: warm interpreters by time, environments and
    /// code by what they take on the disk.
    async fn tidy(&self) {
        let idle = self.parts.zygote_idle;
        let mut interval = tokio::time::interval((idle / 4).clamp(TIDY_INTERVAL.0, TIDY_INTERVAL.1));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.parts.zygotes.retire(idle).await;
            self.parts.environments.shrink().await;
            self.parts.bundles.shrink().await;
        }
    }

    /// What the child starts with: nothing of the executor's environment but what is listed, so no credential of ours.
    fn spawn(&self, attempt: &Attempt, repo: &Path, mark: &str) -> Spawn {
        let mut env = self.parts.env.clone();
        for (name, value) in [
            (EXECUTOR_MARK, self.parts.sweeper.executor().to_owned()),
            (ATTEMPT_MARK, mark.to_owned()),
            ("ORRERY_RUN_ID", attempt.id.run.to_string()),
            ("MAGE_RUNTIME__REPO_PATH", repo.display().to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ] {
            env.insert(name.to_owned(), value);
        }
        // What user code traces is part of this attempt's span.
        let traceparent = rpc::trace::current();
        if !traceparent.is_empty() {
            env.insert("TRACEPARENT".to_owned(), traceparent);
        }
        Spawn {
            env,
            cwd: repo.display().to_string(),
            limits: Limits { memory_bytes: self.parts.limits.memory_bytes },
            name: attempt.id.block.clone(),
        }
    }

    /// From the job to its result, whatever happens in between.
    async fn supervise(
        &self,
        attempt: &Attempt,
        mut child: JobChild,
        job: Value,
        (place, held, mail): (&Place, Option<&Held>, &mut Mail),
    ) -> Outcome {
        let last = !attempt.assignment.one_process;
        if !child.tell(json!({ "type": "job", "job": job, "last": last })) {
            return attempt.without_process(child.crashed().await);
        }
        let limit = u64::try_from(attempt.assignment.timeout_s).ok().filter(|s| *s > 0).map(Duration::from_secs);
        let timeout = tokio::time::sleep(limit.unwrap_or(TIMEOUT_MAX).min(TIMEOUT_MAX));
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                // What ends an attempt comes before what it says: one that never falls silent can still be stopped.
                biased;
                grace = stop_asked(&mut mail.order) => {
                    child.stop(grace).await;
                    return Outcome::Cancelled(pb::Cancelled {});
                }
                () = &mut timeout => {
                    child.stop(TIMEOUT_GRACE).await;
                    let seconds = limit.unwrap_or_default().as_secs();
                    return failed("TIMEOUT", format!("the block took longer than its limit of {seconds} s"));
                }
                Some(reply) = mail.replies.recv() => {
                    if !child.tell(reply) {
                        return attempt.without_process(child.crashed().await);
                    }
                }
                frame = child.next() => match frame {
                    None => return attempt.without_process(child.crashed().await),
                    Some(frame) if frame["type"] == "result" => {
                        let outcome = outcome::of_result(&frame["result"]);
                        if matches!(outcome, Outcome::Completed(_)) {
                            child.has_completed(&attempt.id);
                        }
                        self.release(attempt, child).await;
                        return outcome;
                    }
                    Some(frame) if frame["type"] == "call" => self.call(attempt, (place, held), &child, &frame).await,
                    Some(_) => {}
                },
            }
        }
    }

    /// The attempt is over, the process is not: it waits for the run's next attempt, or ends.
    async fn release(&self, attempt: &Attempt, child: JobChild) {
        if !attempt.assignment.one_process || !child.is_alive() {
            return child.end().await;
        }
        child.flush().await;
        for other in self.homes.keep(attempt.id.run, child) {
            other.end().await;
        }
    }

    /// User code asks for something: outputs of its own run may be on this disk, the rest is the cluster's to answer.
    async fn call(&self, attempt: &Attempt, (place, held): (&Place, Option<&Held>), child: &JobChild, frame: &Value) {
        let arguments = &frame["arguments"];
        let method = frame["method"].as_str().unwrap_or_default();
        if let Err(refused) = given::allowed(method, arguments, held) {
            child.tell(json!({ "type": "reply", "id": frame["id"], "error": refused }));
            return;
        }
        if method == GET_VARIABLE
            && let Some(found) = self.own_variable(attempt, place, arguments)
        {
            child.tell(json!({ "type": "reply", "id": frame["id"], "result": found }));
            return;
        }
        let call = CoreEvent::Call {
            id: attempt.id.clone(),
            call_id: frame["id"].as_i64().unwrap_or(0),
            method: method.to_owned(),
            arguments: arguments.clone(),
        };
        // The core has ended only when the process ends.
        let _ = self.parts.core.send(call).await;
    }
}

#[tonic::async_trait]
impl Attempts for ProcessBackend {
    fn backend(&self) -> &'static str {
        "process"
    }

    fn last_words(&self) -> Duration {
        LAST_WORDS
    }

    async fn run(self: Arc<Self>, attempt: Attempt, mut mail: Mail) {
        let log =
            self.parts.logs.of(&attempt.id, attempt.workspace(), &block_type(&attempt), self.parts.limits.log_bytes);
        let started = Instant::now();
        let outcome = self.outcome(&attempt, &log, &mut mail).instrument(span(&attempt)).await;
        self.parts.outputs.release(&attempt.id);
        if let Outcome::Failed(failed) = &outcome {
            log.system("ERROR", &outcome::told(failed));
        }
        log.finish();
        let duration_us = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
        // The core has ended only when the process ends.
        let _ = self.parts.core.send(CoreEvent::Ended { id: attempt.id, outcome, duration_us }).await;
    }

    fn mask(&self, workspace: &str, value: &str) -> bool {
        self.parts.logs.masks_of(workspace).add(value)
    }

    async fn located(&self, workspace: &str, reader: &AttemptId, answer: Value) -> Result<Value, String> {
        self.bring_named(workspace, reader, answer).await
    }

    fn settle(&self, attempt: &AttemptId) {
        self.parts.outputs.settle(attempt);
    }

    async fn discard(&self, attempts: &[AttemptId]) {
        self.parts.outputs.discard_all(attempts).await;
    }

    async fn end_process(&self, run: RunId) {
        if let Some(child) = self.homes.take(run) {
            child.end().await;
        }
        let views = self.parts.views.clone();
        tokio::task::spawn_blocking(move || views.end(run));
    }

    async fn end_processes(&self) {
        for child in self.homes.take_all() {
            child.end().await;
        }
    }

    fn counts(&self) -> (u64, u64) {
        (self.parts.zygotes.starts(), self.parts.environments.builds())
    }

    async fn warm_up(&self) {
        if let Some(base) = self.parts.environments.ready_base() {
            // A failure is told by the first attempt.
            drop(self.parts.zygotes.get(&base).await);
        }
    }

    async fn sweep(&self) {
        tokio::join!(self.parts.sweeper.run(), self.tidy());
    }
}

fn not_copied(error: &std::io::Error) -> Outcome {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let code = if full { "DISK_FULL" } else { "ENVIRONMENT" };
    failed(code, format!("the project could not be copied for its run: {error}"))
}

fn chain(error: &dyn std::error::Error) -> String {
    runtime::exit::chain(error)
}

/// As the definition names it, such as `data_loader`.
pub(crate) fn block_type(attempt: &Attempt) -> String {
    let kind = attempt.block().map(|block| serde_json::to_value(block.kind));
    kind.and_then(Result::ok).and_then(|kind| Some(kind.as_str()?.to_owned())).unwrap_or_default()
}
