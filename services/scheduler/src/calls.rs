//! What user code asks of the cluster while it runs: start a pipeline, ask for a run, wait for one.
//!
//! The answers come from the database and the engine; the executor only carries them. A run that code starts has a key
//! made of the asking block run, so that a retried block finds the runs that it started before, and starts another one in the
//! place of one that failed. No call reads all units of a run: there may be many, and many who ask.

mod products;
mod waits;

pub use waits::Waits;

use crate::{
    changes::Changes,
    engine::CreateRun,
    orders::{Hop, Orders},
    values,
    wire::AttemptId,
};
use domain::{ErrorKind, id::RunId, run::RunStatus, trigger::key};
use products::Product;
use proto::internal::v1 as pb;
use secrets::Keyring;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use store::{
    Store,
    runs::{PipelineRef, RunHeader, StartablePipeline},
    secrets::{self as secrets_of_runs, Asker},
};
use tokio::sync::{Semaphore, mpsc};

/// Calls under way at once; further ones wait their turn.
const CALLS_MAX: usize = 256;
/// Names and values of all secrets that one run may be given: they travel in one message.
const SECRETS_BYTES_MAX: usize = 512 * 1024;
/// How often a waiting call looks, should every notice be lost; and between two tries where the database is away.
const BACKSTOP: Duration = Duration::from_secs(1);
/// A call waits so long for a database, or a scheduler, that is away. Whoever asked may be over by then.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// How deep runs may lie that start each other by their code.
const DEPTH_MAX: i32 = 32;

/// Answers calls.
#[derive(Clone)]
pub struct Calls {
    store: Store,
    orders: Orders,
    changes: Changes,
    keyring: Option<Arc<Keyring>>,
    unnamed_secrets: bool,
    places: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct TriggerPipeline {
    pipeline_uuid: String,
    #[serde(default)]
    variables: Map<String, Value>,
    key: String,
    /// It is to be started only where this product of it is out of date, and by one of those who ask.
    product: Option<Product>,
}

#[derive(Deserialize)]
struct RunOf {
    run_id: RunId,
}

#[derive(Deserialize)]
struct WaitRun {
    run_id: RunId,
    timeout_s: Option<f64>,
}

#[derive(Deserialize)]
struct PipelineOf {
    pipeline_uuid: String,
}

#[derive(Deserialize)]
struct GetVariable {
    pipeline_uuid: String,
    block_uuid: String,
    variable_uuid: String,
    partition: Option<String>,
}

#[derive(Deserialize)]
struct GetSecret {
    name: String,
}

#[derive(Deserialize)]
struct CheckStatus {
    pipeline_uuid: String,
    execution_date: Option<jiff::Timestamp>,
    block_uuid: Option<String>,
    #[serde(default = "a_day")]
    hours: f64,
}

fn a_day() -> f64 {
    24.0
}

impl Calls {
    /// Reads from the database, starts runs at their owners, opens secrets with `keyring`; with `unnamed_secrets` also for
    /// pipelines whose metadata names none.
    #[must_use]
    pub fn new(
        store: Store,
        orders: Orders,
        changes: Changes,
        keyring: Option<Arc<Keyring>>,
        unnamed_secrets: bool,
    ) -> Self {
        Self { store, orders, changes, keyring, unnamed_secrets, places: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    /// Answers one call on its session, some time later. `waits` are those of the session.
    pub fn answer(&self, call: pb::RunnerCall, outbox: mpsc::Sender<pb::SessionResponse>, waits: &Waits) {
        let (this, waits) = (self.clone(), waits.clone());
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = this.call(&call, &waits) => outcome,
                // Nobody is left who could be told.
                () = outbox.closed() => return,
            };
            let (result, error) = match outcome {
                Ok(value) => (value.to_string(), String::new()),
                Err(error) => (String::new(), error),
            };
            let reply = pb::RunnerReply { call_id: call.call_id, attempt: call.attempt, result, error };
            let message = Some(pb::session_response::Message::RunnerReply(reply));
            // A broken session takes its attempt's call with it; the runner asks again on the next one.
            let _ = outbox.send(pb::SessionResponse { message }).await;
        });
    }

    async fn call(&self, call: &pb::RunnerCall, waits: &Waits) -> Result<Value, String> {
        let attempt = call.attempt.as_ref().ok_or("the call names no attempt")?;
        let caller = RunId::from_slice(&attempt.run_id).ok_or("the call names no run")?;
        match call.method.as_str() {
            "wait_run" => {
                let waiter = AttemptId::from_proto(attempt.clone()).ok_or("the call names no attempt")?;
                let place = waits.enter(waiter);
                // It gave its permits back when it asked, and goes on with any answer.
                let ended = match &place {
                    Ok(_) => self.wait(caller, &call.arguments).await,
                    Err(full) => Err(full.clone()),
                };
                self.resume(attempt).await;
                ended
            }
            method => {
                let _place = self.places.acquire().await.map_err(|_| "the scheduler is stopping")?;
                match method {
                    "trigger_pipeline" => self.trigger(caller, attempt, read(&call.arguments)?).await,
                    "run_status" => {
                        let asked: RunOf = read(&call.arguments)?;
                        let caller = self.header(caller).await?;
                        let run = self.header(asked.run_id).await?;
                        same_workspace(&caller, &run).map(|()| status(&run))
                    }
                    "check_status" => self.check(caller, read(&call.arguments)?).await,
                    "get_variable" => self.variable(caller, attempt, read(&call.arguments)?).await,
                    "global_variables" => self.variables(caller, read(&call.arguments)?).await,
                    "get_secret" => self.secret(caller, attempt, read(&call.arguments)?).await,
                    "get_secrets" => self.secrets(caller, attempt, caller).await,
                    "place_secrets" => self.place_secrets(caller, attempt).await,
                    other => Err(format!("the cluster has no method `{other}`")),
                }
            }
        }
    }

    async fn header(&self, run: RunId) -> Result<RunHeader, String> {
        self.find(run).await?.ok_or_else(|| format!("no run {run}"))
    }

    /// `None` for a run that does not exist, or was forgotten.
    async fn find(&self, run: RunId) -> Result<Option<RunHeader>, String> {
        until_answered(|| store::runs::header(&self.store, run)).await
    }

    /// A pipeline of the caller's workspace.
    async fn pipeline(&self, caller: &RunHeader, name: &str) -> Result<StartablePipeline, String> {
        let named = PipelineRef::Name(caller.workspace_id, name.to_owned());
        let found = until_answered(|| store::runs::current_pipeline(&self.store, &named)).await?;
        found.ok_or_else(|| format!("workspace {} has no pipeline `{name}`", caller.workspace))
    }

    async fn trigger(&self, caller: RunId, attempt: &pb::AttemptRef, asked: TriggerPipeline) -> Result<Value, String> {
        let parent = self.header(caller).await?;
        let pipeline = self.pipeline(&parent, &asked.pipeline_uuid).await?;
        if until_answered(|| store::runs::depth(&self.store, caller, DEPTH_MAX)).await? >= DEPTH_MAX {
            return Err(format!(
                "run {caller} lies {DEPTH_MAX} deep below runs that started each other by their code, and may start none; let \
                 a trigger start what is to go on without an end"
            ));
        }
        let command = CreateRun {
            pipeline: pipeline.id,
            logical_key: key::of_child(caller, &attempt.block, attempt.child, &asked.key),
            variables: Value::Object(asked.variables).to_string(),
            execution_date: None,
            timeout_s: None,
            allow_blocks_to_fail: false,
            parent: Some(caller),
            traceparent: rpc::trace::current(),
            trigger: None,
            repeats: None,
        };
        if let Some(product) = &asked.product {
            return self.refresh(product, &pipeline, command).await;
        }
        let first = self.create(command.clone()).await?;
        // One that was forgotten since serves nobody, as one that failed.
        let found = self.find(first).await?;
        if let Some(run) = found.filter(|run| !matches!(run.status, RunStatus::Failed | RunStatus::Cancelled)) {
            return Ok(status(&run));
        }
        let run = self.in_place_of(first, &pipeline, command, attempt).await?;
        self.header(run).await.map(|run| status(&run))
    }

    /// The run for a call whose first one failed: the last that took its place, or, for an attempt that began since that failed
    /// too, another one.
    async fn in_place_of(
        &self,
        first: RunId,
        pipeline: &StartablePipeline,
        command: CreateRun,
        attempt: &pb::AttemptRef,
    ) -> Result<RunId, String> {
        let run = command.parent.ok_or("the call names no run")?;
        let asker = Asker { run, block: &attempt.block, child: attempt.child, lease: attempt.lease };
        match until_answered(|| store::runs::last_in_place(&self.store, pipeline.trigger_id, first, &asker)).await? {
            (last, true) => self.create(CreateRun { logical_key: key::of_successor(last), ..command }).await,
            (last, false) => Ok(last),
        }
    }

    /// How the run stands when it has ended, or when the caller's time is over.
    async fn wait(&self, caller: RunId, arguments: &str) -> Result<Value, String> {
        let asked: WaitRun = read(arguments)?;
        // More seconds than a clock can count are no limit.
        let patience = asked.timeout_s.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let caller = self.header(caller).await?;
        same_workspace(&caller, &self.header(asked.run_id).await?)?;
        let mut notices = self.changes.subscribe();
        loop {
            let run = self.header(asked.run_id).await?;
            let left = until.map_or(BACKSTOP, |until| until.saturating_duration_since(Instant::now()));
            if run.status.has_ended() || left.is_zero() {
                return Ok(status(&run));
            }
            let changed = async {
                loop {
                    match notices.recv().await {
                        Ok(notice) if !notice.runs.contains(&asked.run_id) => {}
                        _ => break,
                    }
                }
            };
            // Either way the run is read again: a notice is only a hint.
            let _ = tokio::time::timeout(left.min(BACKSTOP), changed).await;
        }
    }

    /// An attempt that waits for a run holds no permits of limits. It goes on when it has them again, so that it never
    /// exceeds one.
    async fn resume(&self, attempt: &pb::AttemptRef) {
        let Some(attempt) = AttemptId::from_proto(attempt.clone()) else { return };
        loop {
            match self.orders.resume(&attempt, Hop::First).await {
                Ok(true) => return,
                Ok(false) => {}
                // Its run has no owner at this moment.
                Err(_) => tokio::time::sleep(BACKSTOP).await,
            }
        }
    }

    async fn check(&self, caller: RunId, asked: CheckStatus) -> Result<Value, String> {
        let caller = self.header(caller).await?;
        let until = asked.execution_date.unwrap_or(caller.execution_date);
        let found = store::runs::latest_status(
            &self.store,
            caller.workspace_id,
            &asked.pipeline_uuid,
            asked.block_uuid.as_deref(),
            (until, asked.hours * 3600.0),
        )
        .await
        .map_err(|_| "the database does not answer".to_owned())?;
        // A name that nothing has would be waited for without end: a run's version says which it has, else the one in force.
        let (status, version) = match found {
            Some((status, pipeline, version)) => (Some(status), (pipeline, version)),
            None => {
                let pipeline = self.pipeline(&caller, &asked.pipeline_uuid).await?;
                (None, (pipeline.id, pipeline.version))
            }
        };
        if let Some(block) = asked.block_uuid.as_deref()
            && status.as_deref().is_none_or(|status| status == "initial")
        {
            let definition = until_answered(|| store::runs::definition(&self.store, version.0, version.1)).await?;
            if definition.is_some_and(|it| it.pipeline.blocks.iter().all(|known| known.uuid != block)) {
                return Err(format!("pipeline `{}` has no block `{block}`", asked.pipeline_uuid));
            }
        }
        Ok(json!({ "status": status }))
    }

    /// Where an output lies; the executor that asked turns it into a folder. `null` when there is none.
    async fn variable(&self, caller: RunId, attempt: &pb::AttemptRef, asked: GetVariable) -> Result<Value, String> {
        let caller = self.header(caller).await?;
        // A partition ends with its run: `<trigger>/<time>_<run>`.
        let run = match asked.partition.as_deref().map(|text| text.rsplit('_').next().unwrap_or_default().parse()) {
            Some(Ok(run)) => Some(run),
            Some(Err(_)) => return Ok(Value::Null),
            None => None,
        };
        let names = (asked.pipeline_uuid.as_str(), asked.block_uuid.as_str());
        let found = store::runs::committed_output(&self.store, caller.workspace_id, names, run)
            .await
            .map_err(|_| "the database does not answer".to_owned())?;
        let Some((run, lease, bundle)) = found else { return Ok(Value::Null) };
        let mut answer = self.secrets(caller.id, attempt, run).await?;
        if let Some(refused) = answer["refused"].as_str() {
            return Err(format!("what pipeline {} wrote cannot be read: {refused}", asked.pipeline_uuid));
        }
        for (name, value) in [
            ("run_id", json!(run)),
            ("block", json!(asked.block_uuid)),
            ("child", json!(-1)),
            ("lease", json!(lease)),
            ("bundle", json!(bundle)),
            ("name", json!(asked.variable_uuid)),
            ("place", json!(self.place_of(run).await?)),
        ] {
            answer[name] = value;
        }
        Ok(answer)
    }

    /// `secrets`, names and values of all that `run` may have been given: an executor hides them wherever `attempt`, which
    /// reads what that run wrote, shows them. So it need not remember what was given out, nor by whom, nor in which life of
    /// its own. `refused` when they are too many.
    async fn secrets(&self, caller: RunId, attempt: &pb::AttemptRef, run: RunId) -> Result<Value, String> {
        let away = |_| "the database does not answer".to_owned();
        let Some(keyring) = self.keyring.as_deref() else { return Ok(json!({ "secrets": [] })) };
        let asker = Asker { run: caller, block: &attempt.block, child: attempt.child, lease: attempt.lease };
        let db = self.store.client().await.map_err(away)?;
        let known = secrets_of_runs::list_for_run(&db, &asker, run, self.unnamed_secrets).await.map_err(away)?;
        let mut opened = Vec::new();
        let mut bytes = 0;
        for secret in known.ok_or("this attempt does not run any more")? {
            let name = secret.name.clone();
            match values::open(Some(keyring), secret) {
                Ok(value) => {
                    bytes += name.len() + value.len();
                    opened.push((name, value));
                }
                // What does not open is given to nobody either.
                Err(error) => tracing::warn!(error, "failed to open a secret that is to be hidden"),
            }
        }
        if bytes > SECRETS_BYTES_MAX {
            let refused = format!(
                "its pipeline may read more than {SECRETS_BYTES_MAX} bytes of secrets, and no more can be hidden in what \
                 it prints; name those that it needs as `secrets` in its metadata.yaml"
            );
            return Ok(json!({ "refused": refused }));
        }
        Ok(json!({ "secrets": opened }))
    }

    /// The secrets that say where the outputs of a run are: for the executor alone, user code is given a folder.
    async fn place_of(&self, run: RunId) -> Result<values::Values, String> {
        let values = values::of_places(&self.store, self.keyring.as_deref(), &[run]).await;
        Ok(values.map_err(|_| "the database does not answer".to_owned())?.remove(&run).unwrap_or_default())
    }

    /// A secret of the run's pipeline, workspace or project; `null` when there is none of this name. The value is in this
    /// answer and nowhere else: no error and no log line holds any of it.
    async fn secret(&self, caller: RunId, attempt: &pb::AttemptRef, asked: GetSecret) -> Result<Value, String> {
        let away = |_| "the database does not answer".to_owned();
        let asker = Asker { run: caller, block: &attempt.block, child: attempt.child, lease: attempt.lease };
        let db = self.store.client().await.map_err(away)?;
        let Some(secret) =
            secrets_of_runs::get_for_run(&db, &asker, &asked.name, self.unnamed_secrets).await.map_err(away)?
        else {
            return Ok(Value::Null);
        };
        Ok(json!({ "value": values::open(self.keyring.as_deref(), secret)? }))
    }

    /// The secrets that say where the caller's outputs go. Its attempt cannot begin without: a database that is away is waited
    /// for, as long as the session lasts that asked.
    async fn place_secrets(&self, caller: RunId, attempt: &pb::AttemptRef) -> Result<Value, String> {
        let asker = Asker { run: caller, block: &attempt.block, child: attempt.child, lease: attempt.lease };
        loop {
            match self.values_for(&asker).await {
                Ok(Some(values)) => return Ok(json!(values)),
                Ok(None) => return Err("the attempt does not run any more".to_owned()),
                Err(error) if error.kind() == ErrorKind::Unavailable => tokio::time::sleep(BACKSTOP).await,
                Err(_) => return Err("the database does not answer".to_owned()),
            }
        }
    }

    /// `None` for an attempt that does not run.
    async fn values_for(&self, asker: &Asker<'_>) -> Result<Option<values::Values>, store::Error> {
        if !secrets_of_runs::holds(&self.store.client().await?, asker).await? {
            return Ok(None);
        }
        let mut values = values::of_places(&self.store, self.keyring.as_deref(), &[asker.run]).await?;
        Ok(Some(values.remove(&asker.run).unwrap_or_default()))
    }

    async fn variables(&self, caller: RunId, asked: PipelineOf) -> Result<Value, String> {
        let caller = self.header(caller).await?;
        let name = PipelineRef::Name(caller.workspace_id, asked.pipeline_uuid.clone());
        let away = |_| "the database does not answer".to_owned();
        let found = store::runs::current_pipeline(&self.store, &name).await.map_err(away)?;
        let pipeline = found.ok_or_else(|| format!("no pipeline `{}`", asked.pipeline_uuid))?;
        let definition = store::runs::definition(&self.store, pipeline.id, pipeline.version).await.map_err(away)?;
        Ok(Value::Object(definition.map(|d| d.pipeline.variables).unwrap_or_default()))
    }
}

/// Asks until the database answers: a call does not fail because the database was away for a moment.
async fn until_answered<T, F: Future<Output = Result<T, store::Error>>>(ask: impl Fn() -> F) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.kind() == ErrorKind::Unavailable && begun.elapsed() < AWAY_MAX => {
                tokio::time::sleep(BACKSTOP).await;
            }
            Err(_) => return Err("the database does not answer".to_owned()),
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(arguments: &str) -> Result<T, String> {
    let malformed = |error: serde_json::Error| format!("the call's arguments are malformed: {error}");
    let given: Map<String, Value> = serde_json::from_str(arguments).map_err(malformed)?;
    if let Some(field) = rpc::json::nul(&given, "") {
        return Err(format!("{field} {}", rpc::json::NUL));
    }
    serde_json::from_value(Value::Object(given)).map_err(malformed)
}

/// A run of another workspace is not there, whatever its id.
fn same_workspace(caller: &RunHeader, run: &RunHeader) -> Result<(), String> {
    if caller.workspace_id == run.workspace_id { Ok(()) } else { Err(format!("no run {}", run.id)) }
}

fn status(run: &RunHeader) -> Value {
    json!({ "run_id": run.id, "status": run.status.as_str(), "reason": run.reason })
}
