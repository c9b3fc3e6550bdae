//! Attempts elsewhere: each in a container that a backend starts, where this same program runs it in its one-shot mode.
//!
//! The container comes back over a session and is told there what to run, as a scheduler would tell it; its lines, calls
//! and result come over that session too. An attempt is over when its container is gone. Refuses to know what a
//! container is.

mod conversation;
mod devices;
pub mod guests;

use crate::{
    attempt::{Attempt, AttemptId, failed},
    attempts::{Attempts, Mail, span, stop_asked},
    bundles::Bundles,
    core::CoreEvent,
    journal::Journal,
    logs::{AttemptLog, LogQueue},
    outputs::{Outputs, Place},
    pool::Wishes,
    process::{block_type, keeping, outcome},
};
use backend::{Backend, Ended, Error, Launch, Name, Phase};
use conversation::{Conversation, Heard, LOST_AFTER};
use domain::id::RunId;
use guests::{Expected, Guests};
use proto::internal::v1::{self as pb, result::Outcome};
use runtime::{
    backoff::{self, Backoff},
    shutdown::Shutdown,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};
use tracing::Instrument as _;

/// Between two looks at a container.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same for one that is about to end.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// For one answer of the backend.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A backend that is away is tried again for so long before an attempt is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// After a container has ended, for words of it that are under way.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// A backend may list a container a little later than it started it.
const LISTED_WITHIN: Duration = Duration::from_secs(15);
/// After a result, for its container to end by itself.
const FAREWELL: Duration = Duration::from_secs(10);
/// At the deadline of a drain, for containers to be gone: [`LAST_WORDS`] of those that do not answer, their removal, and a look
/// that shows it. Whoever ends this process has to leave it so long.
const SEEN_OFF: Duration = Duration::from_secs(10);
/// A container that was told to go and still is there is named in the log each time so long has passed.
const GONE_LATE: Duration = Duration::from_secs(60);
/// Beyond an attempt's own time-out, for its start and its end; and for one that has no time-out.
const LIFETIME_MARGIN: Duration = Duration::from_secs(3600);
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Of a container's name: no two attempts have the same.
const NAME_DIGEST_BYTES: usize = 20;
/// Between two sweeps after what an earlier life launched.
const REAP_INTERVAL: Duration = Duration::from_secs(60);

/// What attempts elsewhere are made of.
pub struct Parts {
    /// Code: to find out where its outputs go.
    pub bundles: Arc<Bundles>,
    /// Where attempts write.
    pub outputs: Arc<Outputs>,
    /// What ran when, and on which devices.
    pub journal: Arc<Journal>,
    /// Lines on their way.
    pub logs: LogQueue,
    /// Text that one attempt may log, bytes.
    pub log_bytes: u64,
    /// The environment of the one-shot program: its settings.
    pub env: BTreeMap<String, String>,
    /// The longest time from a launch to the first word.
    pub start_timeout: Duration,
    /// Where results and calls go.
    pub core: mpsc::Sender<CoreEvent>,
    /// Where devices are wished for; `None` when this executor serves no pool.
    pub wishes: Option<Wishes>,
    /// Whether this process is about to end: what has no container then begins elsewhere.
    pub shutdown: Shutdown,
}

/// Runs attempts on a backend.
pub struct RemoteBackend<B> {
    backend: B,
    guests: Guests,
    parts: Parts,
    living: Mutex<HashSet<Name>>,
    /// For those who wait for devices without a slot.
    waiting: Semaphore,
}

impl<B: Backend> RemoteBackend<B> {
    /// A backend on which nothing runs yet. `guests` serves the sessions of what will be launched.
    #[must_use]
    pub fn new(backend: B, guests: Guests, parts: Parts) -> Self {
        Self { backend, guests, parts, living: Mutex::default(), waiting: Semaphore::new(devices::WAITING_MAX) }
    }

    async fn outcome(&self, attempt: &Attempt, log: &AttemptLog, mail: &mut Mail) -> Outcome {
        if attempt.assignment.one_process {
            let why = "blocks of a run in one process share its memory, and this executor runs each block in a container \
                       of its own: run the pipeline on an executor whose backend is `process`, or turn \
                       run_pipeline_in_one_process off";
            return told(log, failed("ENVIRONMENT", why));
        }
        let Mail { order, replies } = &mut *mail;
        let place = tokio::select! {
            biased;
            _ = stop_asked(order) => return Outcome::Cancelled(pb::Cancelled {}),
            place = self.place(attempt, log, replies) => place,
        };
        let place = match place {
            Ok(place) => place,
            Err(error) => return told(log, keeping::broken(&error)),
        };
        let name = name(&attempt.id);
        // Until it is gone: after its result come its last lines.
        let mut expected = self.guests.expect(log);
        self.with_living(|living| living.insert(name.clone()));
        let mut launch = self.launch(attempt, &name, &expected);
        // Held until the container is gone.
        let (ended, _held) = match self.devices(&attempt.id, &mut launch, (log, mail)).await {
            Ok(held) => {
                self.parts.journal.launched(&attempt.id, launch.place.as_ref());
                (self.attend(attempt, &launch, &mut expected, (log, mail)).await, held)
            }
            Err(ended) => (ended, None),
        };
        self.see_off(&name, matches!(ended, Outcome::Completed(_))).await;
        self.parts.journal.ended(&attempt.id, outcome::name(&ended));
        self.with_living(|living| living.remove(&name));
        self.parts.outputs.expect(&attempt.id, &place);
        if !matches!(ended, Outcome::Completed(_)) {
            let (outputs, id) = (Arc::clone(&self.parts.outputs), attempt.id.clone());
            // Apart from the result, which must not wait for a store that is away.
            tokio::spawn(async move { outputs.discard_all(&[id]).await });
        }
        ended
    }

    async fn place(
        &self,
        attempt: &Attempt,
        log: &AttemptLog,
        replies: &mut mpsc::Receiver<Value>,
    ) -> Result<Place, keeping::NoPlace> {
        let secrets = keeping::secrets(attempt, &self.parts.core, replies).await?;
        let (bundles, outputs) = (&self.parts.bundles, &self.parts.outputs);
        keeping::place(bundles, outputs, &attempt.definition.bundle_digest, &secrets, log.masks()).await
    }

    /// From the launch to the attempt's last word.
    async fn attend(
        &self,
        attempt: &Attempt,
        launch: &Launch,
        expected: &mut Expected,
        (log, mail): (&AttemptLog, &mut Mail),
    ) -> Outcome {
        tokio::select! {
            biased;
            _ = stop_asked(&mut mail.order) => return Outcome::Cancelled(pb::Cancelled {}),
            launched = self.launched(launch, log) => if let Err(error) = launched {
                return told(log, failed("ENVIRONMENT", format!("the container could not be started: {error}")));
            },
        }
        let (phases, phase) = watch::channel(Phase::Waiting { reason: String::new() });
        let watching = self.watch(&launch.name, &phases);
        let attending = Attending { attempt, log, start_timeout: self.parts.start_timeout, core: &self.parts.core };
        tokio::select! {
            outcome = attending.run(expected, mail, phase) => outcome,
            () = watching => Outcome::Cancelled(pb::Cancelled {}),
        }
    }

    fn launch(&self, attempt: &Attempt, name: &Name, expected: &Expected) -> Launch {
        let id = &attempt.id;
        let run = attempt.assignment.run.clone().unwrap_or_default();
        let limit = u64::try_from(attempt.assignment.timeout_s).ok().filter(|seconds| *seconds > 0);
        let pipeline = &attempt.definition.pipeline;
        let config = attempt.block().map(|block| &block.executor_config).filter(|config| !config.is_empty());
        Launch {
            name: name.clone(),
            labels: BTreeMap::from([
                ("run", id.run.to_string()),
                ("block", id.block.clone()),
                ("child", id.child.to_string()),
                ("lease", id.lease.to_string()),
                ("pipeline", run.pipeline),
                ("workspace", run.workspace),
            ]),
            env: self.parts.env.clone(),
            token: expected.token.clone(),
            place: None,
            config: serde_json::to_string(config.unwrap_or(&pipeline.executor_config)).unwrap_or_default(),
            lifetime_max: limit.map_or(LIFETIME_MAX, |limit| Duration::from_secs(limit) + LIFETIME_MARGIN),
        }
    }

    async fn launched(&self, launch: &Launch, log: &AttemptLog) -> Result<(), Error> {
        let (until, mut pause) = (Instant::now() + PATIENCE, Backoff::new(BACKOFF.0, BACKOFF.1));
        loop {
            match answered(self.backend.launch(launch)).await {
                Ok(remarks) => {
                    remarks.iter().for_each(|remark| log.system("WARNING", remark));
                    return Ok(());
                }
                Err(Error::Away(reason)) if Instant::now() < until => {
                    log.system("WARNING", &format!("the container could not be started yet: {reason}; trying again"));
                    tokio::time::sleep(pause.next(backoff::random())).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells how the container does, whenever that changes; never returns.
    async fn watch(&self, name: &Name, phases: &watch::Sender<Phase>) {
        loop {
            match answered(self.backend.observe(name)).await {
                Ok(phase) => {
                    phases.send_if_modified(|known| std::mem::replace(known, phase.clone()) != phase);
                }
                Err(error) => tracing::debug!(%name, %error, "the backend does not tell how a container does"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns when the container is gone: its devices are free then, and not before. A well-behaved one ends by itself.
    async fn see_off(&self, name: &Name, by_itself: bool) {
        let begun = Instant::now();
        let (mut cancelled, mut late) = (!by_itself && self.cancelled(name).await, GONE_LATE);
        loop {
            if matches!(answered(self.backend.observe(name)).await, Ok(Phase::Ended(_) | Phase::Absent)) {
                break;
            }
            if !cancelled && (!by_itself || begun.elapsed() > FAREWELL) {
                cancelled = self.cancelled(name).await;
            }
            if begun.elapsed() > late {
                tracing::warn!(%name, "a container was told to go and is still there; its attempt waits for that");
                late += GONE_LATE;
            }
            let young = begun.elapsed() < FAREWELL;
            tokio::time::sleep(if young { LOOK_SOON } else { LOOK_AGAIN }).await;
        }
        // What is left of it, and its token. What fails now is found by the sweep.
        self.cancelled(name).await;
    }

    async fn cancelled(&self, name: &Name) -> bool {
        match answered(self.backend.cancel(name, Duration::ZERO)).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%name, %error, "failed to cancel a container; trying again");
                false
            }
        }
    }

    fn with_living<T>(&self, act: impl FnOnce(&mut HashSet<Name>) -> T) -> T {
        act(&mut self.living.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An attempt while its container lives.
struct Attending<'a> {
    attempt: &'a Attempt,
    log: &'a AttemptLog,
    start_timeout: Duration,
    core: &'a mpsc::Sender<CoreEvent>,
}

impl Attending<'_> {
    async fn run(&self, expected: &mut Expected, mail: &mut Mail, mut phase: watch::Receiver<Phase>) -> Outcome {
        let mut conversation = Conversation::new(self.attempt);
        let (begun, mut until, mut stopping) = (Instant::now(), None::<(Instant, Outcome)>, false);
        let mut look = tokio::time::interval(LOOK_AGAIN);
        loop {
            tokio::select! {
                biased;
                grace = stop_asked(&mut mail.order), if !stopping => {
                    stopping = true;
                    // One that has not come yet never will: it is removed at once.
                    let Some(_) = conversation.heard() else { return Outcome::Cancelled(pb::Cancelled {}) };
                    conversation.stop(grace);
                    until = Some((Instant::now() + grace + LAST_WORDS, Outcome::Cancelled(pb::Cancelled {})));
                }
                Some(reply) = mail.replies.recv() => conversation.reply(&reply),
                Some(word) = expected.words.recv() => match conversation.hear(word) {
                    Some(Heard::Ended(outcome)) => return outcome,
                    // The core has ended only when the process ends.
                    Some(Heard::Call(call)) => drop(self.core.send(call).await),
                    None => {}
                },
                Ok(()) = phase.changed() => {
                    let now = phase.borrow_and_update().clone();
                    if let Phase::Waiting { reason } = &now
                        && !reason.is_empty()
                    {
                        self.log.system("INFO", reason);
                    }
                    match now {
                        Phase::Ended(ended) => until = Some((Instant::now() + LAST_WORDS, of_end(&ended))),
                        Phase::Absent => until = Some((Instant::now() + LISTED_WITHIN, of_absence())),
                        Phase::Waiting { .. } | Phase::Running if !stopping => until = None,
                        Phase::Waiting { .. } | Phase::Running => {}
                    }
                }
                _ = look.tick() => {
                    let given_up = match conversation.heard() {
                        None if begun.elapsed() > self.start_timeout => Some(self.never_came(&phase.borrow())),
                        Some(heard) if heard.elapsed() > LOST_AFTER * 2 => Some(silent()),
                        _ => None,
                    };
                    if let Some(outcome) = given_up {
                        return told(self.log, outcome);
                    }
                    if let Some((_, outcome)) = until.take_if(|(until, _)| Instant::now() > *until) {
                        return if stopping { Outcome::Cancelled(pb::Cancelled {}) } else { told(self.log, outcome) };
                    }
                }
            }
        }
    }

    fn never_came(&self, phase: &Phase) -> Outcome {
        let seconds = self.start_timeout.as_secs();
        let why = match phase {
            Phase::Waiting { reason } if !reason.is_empty() => format!(": {reason}"),
            Phase::Running => ", though it runs: it must reach this executor at attempts_url".to_owned(),
            _ => String::new(),
        };
        failed("ENVIRONMENT", format!("the container did not begin within {seconds} s (start_timeout){why}"))
    }
}

#[tonic::async_trait]
impl<B: Backend> Attempts for RemoteBackend<B> {
    fn backend(&self) -> &'static str {
        self.backend.name()
    }

    fn last_words(&self) -> Duration {
        SEEN_OFF
    }

    async fn run(self: Arc<Self>, attempt: Attempt, mut mail: Mail) {
        let log = self.parts.logs.of(&attempt.id, attempt.workspace(), &block_type(&attempt), self.parts.log_bytes);
        let started = Instant::now();
        let ended = self.outcome(&attempt, &log, &mut mail).instrument(span(&attempt)).await;
        let outcome = outcome::masked(ended, log.masks());
        log.finish();
        let duration_us = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
        // The core has ended only when the process ends.
        let _ = self.parts.core.send(CoreEvent::Ended { id: attempt.id, outcome, duration_us }).await;
    }

    fn mask(&self, workspace: &str, value: &str) -> bool {
        self.parts.logs.masks_of(workspace).add(value)
    }

    /// The container itself brings them to where its code runs.
    async fn located(&self, _workspace: &str, _reader: &AttemptId, answer: Value) -> Result<Value, String> {
        Ok(answer)
    }

    fn settle(&self, attempt: &AttemptId) {
        self.parts.outputs.settle(attempt);
    }

    async fn discard(&self, attempts: &[AttemptId]) {
        self.parts.outputs.discard_all(attempts).await;
    }

    async fn end_process(&self, _run: RunId) {}

    async fn end_processes(&self) {}

    fn counts(&self) -> (u64, u64) {
        (0, 0)
    }

    async fn warm_up(&self) {}

    async fn sweep(&self) {
        loop {
            match self.backend.reap(&|name| self.with_living(|living| living.contains(name))).await {
                Ok(0) => {}
                Ok(containers) => tracing::warn!(containers, "ended containers that belong to no attempt"),
                Err(error) => tracing::warn!(%error, "failed to look for containers that belong to no attempt"),
            }
            tokio::time::sleep(REAP_INTERVAL).await;
        }
    }
}

/// A backend that does not answer in time is away.
async fn answered<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = || Error::Away(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()));
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
}

/// The same for the same attempt, whoever launches it.
fn name(attempt: &AttemptId) -> Name {
    Name::of("attempt", &Sha256::digest(attempt.to_string().as_bytes())[..NAME_DIGEST_BYTES])
}

/// A failure that no guest has told.
fn told(log: &AttemptLog, outcome: Outcome) -> Outcome {
    if let Outcome::Failed(failed) = &outcome {
        log.system("ERROR", &outcome::told(failed));
    }
    outcome
}

fn of_end(ended: &Ended) -> Outcome {
    match ended {
        Ended::OutOfMemory => failed(
            "OUT_OF_MEMORY",
            "the container was killed since it used more memory than it may: give the block more in its executor_config",
        ),
        Ended::Exited { code, output } => {
            let said = if output.is_empty() { String::new() } else { format!("; the last that it wrote: {output}") };
            failed("CRASHED", format!("the container ended with code {code} before it had a result{said}"))
        }
        Ended::Evicted { reason } => failed("LOST", format!("the container was ended by its cluster: {reason}")),
        Ended::Lost { reason } => failed("LOST", format!("the machine of the container was lost: {reason}")),
        Ended::Unstartable { reason } => failed("ENVIRONMENT", format!("the container cannot start: {reason}")),
    }
}

fn of_absence() -> Outcome {
    failed("CRASHED", "the container was removed before it had a result; somebody else did that")
}

fn silent() -> Outcome {
    let seconds = LOST_AFTER.as_secs() * 2;
    failed("CRASHED", format!("the container said nothing for {seconds} s: its node may be gone, or cut off"))
}
