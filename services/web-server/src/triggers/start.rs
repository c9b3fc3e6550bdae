//! Starts of a trigger by a call or an event, as commands for a scheduler, which decides. Refuses to know the protocol that
//! they came by.

use crate::commands::Started;
use crate::core::Core;
use crate::fault::Fault;
use crate::repeated::{self, Wanted};
use crate::{idempotent, new_runs};
use domain::{
    ErrorKind, event,
    trigger::{Kind, SkipReason, key},
};
use jiff::Timestamp;
use proto::internal::v1::NewRun;
use serde_json::{Map, Value};
use std::time::Duration;
use store::{triggers::Listed, workspaces::Workspace};

/// The most active event triggers of one workspace that an event is held against; and of those that are paused, so many at
/// least are.
const EVENT_TRIGGERS_MAX: usize = 10_000;
/// How often a start is decided while somebody edits the trigger.
const TRIES_MAX: u32 = 5;
/// Before the second try; before each further one so much longer. Whoever holds the trigger's row commits within milliseconds.
const TRY_PAUSE: Duration = Duration::from_millis(25);
/// The most triggers that one event fires; and paused ones whose history tells that they missed it.
const MATCHES_MAX: usize = new_runs::BATCH_MAX;

/// What a caller tells about the run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Over those of the trigger and the pipeline.
    pub(crate) variables: Map<String, Value>,
    /// Beside the variables.
    pub(crate) event_variables: Map<String, Value>,
    /// Now, when absent.
    pub(crate) execution_date: Option<Timestamp>,
    /// Empty for none.
    pub(crate) idempotency_key: String,
    /// The public part of the trigger's token, by which calls are counted.
    pub(crate) called_by: Option<String>,
}

/// Starts an API trigger once. A call of one that is paused or halted is accounted for by a scheduler, and refused.
pub(crate) async fn call(core: &Core, listed: Listed, told: Told) -> Result<(Listed, Started), Fault> {
    idempotent::check(&told.idempotency_key)?;
    let key = new_runs::logical_key(&told.idempotency_key);
    let started = start(core, listed, |listed| match refused(listed) {
        // It was called when it came, and is something else by now.
        _ if listed.trigger.spec.kind != Kind::Api => Err(super::none(listed.trigger.id)),
        None => new_run(core, listed, key.clone(), told.clone()).map(Some),
        Some(_) => skip(core, listed, new_runs::logical_key(""), &told).map(Some),
    })
    .await?
    .ok_or_else(|| Fault::new(ErrorKind::Internal, "INTERNAL", "a call that is no start was started"))?;
    if let (listed, Started::Not(reason)) = &started {
        // A run that failed just now may have halted it since it was read.
        let is_paused = reason == SkipReason::Pause.as_str() && refused(listed).is_none();
        let now = if is_paused { Some(super::find(core, listed.trigger.id).await?) } else { None };
        if let Some(fault) = refused(now.as_ref().unwrap_or(listed)) {
            return Err(fault);
        }
    }
    check_repeated(core, &told, &started.1).await?;
    Ok(started)
}

/// A key that has started a run already must have told the same then.
async fn check_repeated(core: &Core, told: &Told, started: &Started) -> Result<(), Fault> {
    let (Started::Run(run), false) = (started, told.idempotency_key.is_empty()) else { return Ok(()) };
    let wanted = Wanted {
        at: 0,
        key: told.idempotency_key.clone(),
        variables: told.variables.clone(),
        event_variables: Some(told.event_variables.clone()),
        execution_date: told.execution_date,
        options: None,
    };
    repeated::check(core, &[wanted], &[*run]).await
}

/// Why a trigger starts nothing, when it is paused or halted, or its workspace archived.
fn refused(listed: &Listed) -> Option<Fault> {
    if listed.workspace_archived {
        return Some(Fault::archived(&listed.workspace));
    }
    let name = &listed.trigger.name;
    let why = match (listed.trigger.active, listed.halted) {
        (true, false) => return None,
        (true, true) => "was halted by a run that failed",
        (false, _) => "is paused",
    };
    let message = format!("trigger `{name}` {why}; start it with `orrery triggers start {name}`");
    Some(Fault::new(ErrorKind::FailedPrecondition, "TRIGGER_PAUSED", message))
}

/// A start of a trigger that starts nothing, for its history: the scheduler that decides about it skips it. Its key is not
/// the caller's, who may repeat the call when the trigger fires again; nor is it told what no run will be told.
fn skip(core: &Core, listed: &Listed, key: String, told: &Told) -> Result<NewRun, Fault> {
    let Told { execution_date, called_by, .. } = told.clone();
    new_run(core, listed, key, Told { execution_date, called_by, ..Told::default() })
}

/// Holds an event against the workspace's triggers and starts those that it matches, one by one: a trigger that is edited
/// at this moment is no reason for others to wait.
pub(crate) async fn publish(
    core: &Core,
    workspace: &Workspace,
    event: &Value,
    idempotency_key: &str,
) -> Result<Vec<(Listed, Started)>, Fault> {
    idempotent::check(idempotency_key)?;
    let named = named_by_its_source(event);
    let key = key::of_event(if idempotency_key.is_empty() { &named } else { idempotency_key }, uuid::Uuid::now_v7);
    let variables = Map::from_iter([("event".to_owned(), event.clone())]);
    // Only a key that somebody chose can have been chosen twice: what a source delivers again may differ in how it came.
    let told = Told { variables, idempotency_key: idempotency_key.to_owned(), ..Told::default() };
    let (mut outcomes, mut failed) = (Vec::new(), None);
    for listed in matching(core, workspace, event).await? {
        let trigger = listed.trigger.id;
        let started = start(core, listed, |listed| {
            if !matches(listed, event) {
                return Ok(None);
            }
            let run = match refused(listed) {
                None => new_run(core, listed, key.clone(), told.clone()),
                Some(_) => skip(core, listed, key::of_event("", uuid::Uuid::now_v7), &told),
            };
            run.map(Some)
        });
        let outcome = match started.await {
            Ok(Some((listed, started))) => {
                check_repeated(core, &told, &started).await.map(|()| Some((listed, started)))
            }
            outcome => outcome,
        };
        match outcome {
            // Its history tells it; to whoever sent the event it matched nothing that fires.
            Ok(Some((listed, Started::Not(_)))) if refused(&listed).is_some() => {}
            Ok(outcome) => outcomes.extend(outcome),
            // No reason for others to miss the event: who sent it is told in the end, and may repeat it with its key.
            Err(fault) => {
                tracing::warn!(trigger.id = %trigger, error = %fault.0, "a trigger missed an event");
                failed = failed.or(Some(fault));
            }
        }
    }
    failed.map_or(Ok(outcomes), Err)
}

/// The idempotency key of an event that names itself, as CloudEvents and those of EventBridge do, by the pair of both: they may be
/// delivered twice. Empty for all others, whose `id` may be anybody's.
fn named_by_its_source(event: &Value) -> String {
    let text = |key: &str| event.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(source), Some(id), Some(_)) = (text("source"), text("id"), text("specversion").or(text("detail-type")))
    else {
        return String::new();
    };
    // Where an id has a slash, the last one does not tell where the source ends.
    let source = if id.contains('/') { format!("{}:{source}", source.len()) } else { source.to_owned() };
    if source.len() + id.len() < idempotent::KEY_CHARS_MAX { format!("{source}/{id}") } else { String::new() }
}

/// Starts what `decide` makes of the version in force. Where another one is by the time a scheduler looks, it decides again:
/// the caller asked for the trigger and not for a version. `None` is what `decide` says.
async fn start(
    core: &Core,
    mut listed: Listed,
    decide: impl Fn(&Listed) -> Result<Option<NewRun>, Fault>,
) -> Result<Option<(Listed, Started)>, Fault> {
    let mut tries = 0;
    loop {
        let Some(run) = decide(&listed)? else { return Ok(None) };
        tries += 1;
        match core.commands.start_runs(vec![run]).await {
            Ok(started) => return Ok(started.into_iter().next().map(|started| (listed, started))),
            Err(fault) if fault.0.kind == ErrorKind::Conflict && tries < TRIES_MAX => {
                tokio::time::sleep(TRY_PAUSE * tries).await;
                listed = super::find(core, listed.trigger.id).await?;
            }
            Err(fault) => return Err(fault),
        }
    }
}

async fn matching(core: &Core, workspace: &Workspace, event: &Value) -> Result<Vec<Listed>, Fault> {
    let limit = i64::try_from(2 * EVENT_TRIGGERS_MAX).unwrap_or(i64::MAX);
    let db = core.store.client().await?;
    let all = store::triggers::of_events(&db, workspace.id, limit).await?;
    let too_many = |what: &str, most: usize| {
        let message = format!("{what} in workspace `{}` are more than {most}; pause or archive some", workspace.name);
        Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_TRIGGERS", message)
    };
    // What is paused keeps nothing that fires from an event.
    if all.iter().flatten().filter(|listed| listed.fires()).count() > EVENT_TRIGGERS_MAX {
        return Err(too_many("the active event triggers", EVENT_TRIGGERS_MAX));
    }
    let (mut matching, mut paused) = (Vec::new(), Vec::new());
    for listed in all {
        match listed {
            Ok(listed) if matches(&listed, event) => {
                let of_its_kind = if listed.fires() { &mut matching } else { &mut paused };
                of_its_kind.push(listed);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = runtime::exit::chain(&error), "an event trigger cannot be read"),
        }
    }
    if matching.len() > MATCHES_MAX {
        return Err(too_many("the active triggers that the event matches", MATCHES_MAX));
    }
    if paused.len() > MATCHES_MAX {
        let (all, told) = (paused.len(), MATCHES_MAX);
        tracing::warn!(
            workspace = workspace.name,
            all,
            told,
            "of the paused triggers of an event only some tell of it"
        );
    }
    matching.extend(paused.into_iter().take(MATCHES_MAX));
    Ok(matching)
}

fn matches(listed: &Listed, event: &Value) -> bool {
    let Kind::Event { patterns } = &listed.trigger.spec.kind else { return false };
    event::parse_all(patterns).is_ok_and(|patterns| patterns.iter().any(|pattern| pattern.matches(event)))
}

fn new_run(core: &Core, listed: &Listed, logical_key: String, told: Told) -> Result<NewRun, Fault> {
    let trigger = &listed.trigger;
    let mut variables = trigger.spec.variables.clone();
    variables.extend(told.variables);
    let variables = Value::Object(variables).to_string();
    let event_variables =
        if told.event_variables.is_empty() { String::new() } else { Value::Object(told.event_variables).to_string() };
    let limit = core.limits.variables_bytes;
    if variables.len() + event_variables.len() > limit {
        let why = format!("must be at most {limit} bytes of JSON with those of the trigger; pass a reference instead");
        return Err(Fault::field("variables", why));
    }
    Ok(NewRun {
        pipeline_id: trigger.pipeline.to_vec(),
        logical_key,
        variables,
        execution_date_us: told.execution_date.map(Timestamp::as_microsecond),
        timeout_s: trigger.spec.timeout_s.and_then(|s| i32::try_from(s).ok()).unwrap_or(0),
        allow_blocks_to_fail: trigger.spec.allow_blocks_to_fail,
        trigger_id: trigger.id.to_vec(),
        trigger_version: trigger.version,
        event_variables,
        calls_per_second: told.called_by.as_ref().map_or(0, |_| core.limits.trigger_calls_per_second),
        called_by: told.called_by.unwrap_or_default(),
        ..NewRun::default()
    })
}
