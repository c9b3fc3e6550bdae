//! Runtimes as messages. Refuses to decide anything.

use super::spec::{percent, signed, signed_small};
use crate::core::Core;
use crate::fault::Fault;
use domain::id::HolderId;
use domain::runtime::{App, Spec, base_path};
use proto::v1::{self, RuntimeApp, RuntimeState};
use rpc::timestamp::to_proto;
use std::collections::HashMap;
use store::runtime_views::{self, Event, Held, Life, Runtime};

/// The code of a life that runs and is not as it should be.
const UNBOUND: &str = "UNBOUND";

/// A state as its column has it.
const STATES: [(&str, RuntimeState); 5] = [
    ("stopped", RuntimeState::Stopped),
    ("starting", RuntimeState::Starting),
    ("running", RuntimeState::Running),
    ("stopping", RuntimeState::Stopping),
    ("error", RuntimeState::Error),
];

/// The wire's form of a column's word.
pub(crate) fn state(word: &str) -> RuntimeState {
    STATES.into_iter().find(|(known, _)| *known == word).map_or(RuntimeState::Unspecified, |(_, state)| state)
}

/// The column's word; `None` for what is no state.
pub(crate) fn state_word(state: i32) -> Option<&'static str> {
    let state = RuntimeState::try_from(state).ok()?;
    STATES.into_iter().find(|(_, known)| *known == state).map(|(word, _)| word)
}

/// One runtime, with its devices.
pub(crate) async fn message(core: &Core, runtime: Runtime) -> Result<v1::Runtime, Fault> {
    let mut messages = messages(core, vec![runtime]).await?;
    Ok(messages.pop().unwrap_or_default())
}

/// Runtimes, with their devices.
pub(crate) async fn messages(core: &Core, runtimes: Vec<Runtime>) -> Result<Vec<v1::Runtime>, Fault> {
    let holders: Vec<HolderId> = runtimes.iter().filter_map(|r| r.life.as_ref().map(|life| life.holder)).collect();
    let mut held = match holders.is_empty() {
        true => HashMap::new(),
        false => runtime_views::held(&core.store.client().await?, &holders).await?,
    };
    let devices = |runtime: &Runtime, held: &mut HashMap<HolderId, Vec<Held>>| {
        runtime.life.as_ref().and_then(|life| held.remove(&life.holder)).unwrap_or_default()
    };
    Ok(runtimes
        .into_iter()
        .map(|runtime| {
            let devices = devices(&runtime, &mut held);
            encode(runtime, devices)
        })
        .collect())
}

fn encode(runtime: Runtime, devices: Vec<Held>) -> v1::Runtime {
    let saved = runtime.saved.as_ref();
    let mut message = v1::Runtime {
        workspace: runtime.name,
        project: runtime.project,
        state: RuntimeState::Stopped.into(),
        queue: saved.map(|saved| saved.queue.clone()).unwrap_or_default(),
        spec_version: saved.map_or(0, |saved| saved.version),
        now: Some(to_proto(runtime.now)),
        devices: devices.into_iter().map(device).collect(),
        ..v1::Runtime::default()
    };
    if let Some(spec) = saved.map(|saved| &saved.spec) {
        sizes(&mut message, spec);
    }
    if let Some(life) = runtime.life {
        message.spec_changed =
            life.state != "stopped" && saved.is_some_and(|saved| saved.spec != life.spec.without_volumes(|_| true));
        lived(&mut message, life);
    }
    message
}

fn sizes(message: &mut v1::Runtime, spec: &Spec) {
    let app = match spec.app {
        App::Jupyter => RuntimeApp::Jupyter,
        App::VsCode => RuntimeApp::VsCode,
        App::Custom { .. } => RuntimeApp::Custom,
    };
    message.app = app.into();
    message.gpus = signed_small(spec.ask.gpus);
    message.sm_percent = percent(spec.ask.gpu_milli);
    message.effective_gpu_milli = signed(spec.ask.effective_milli());
    message.cpu_milli = signed(spec.ask.cpu_milli);
    message.memory_bytes = signed(spec.ask.memory_bytes);
    message.storage_bytes = signed(spec.storage_bytes);
}

/// What a life adds. While there is one, its queue and its sizes count, and not those that the next one will have.
fn lived(message: &mut v1::Runtime, life: Life) {
    let alive = life.state != "stopped";
    if alive {
        sizes(message, &life.spec);
        message.node = life.node;
    }
    // One that failed is in no queue any more.
    if alive && life.state != "error" {
        message.queue = life.queue;
        message.plan = life.plan;
    }
    message.state = state(&life.state).into();
    message.bound = life.state == "running" && life.reason != UNBOUND;
    if life.state == "running" {
        message.path = base_path(&message.workspace);
    }
    message.step = life.step;
    message.reason = life.reason;
    message.message = life.message;
    message.hint = life.hint;
    message.number = life.number;
    message.submitted_at = Some(to_proto(life.submitted_at));
    message.placed_at = life.placed_at.map(to_proto);
    message.running_at = life.running_at.map(to_proto);
    message.stopped_at = life.stopped_at.map(to_proto);
    message.active_at = life.active_at.map(to_proto);
    message.protected_until = life.protected_until.filter(|_| alive).map(to_proto);
    message.ends_at = life.ends_at.filter(|_| alive).map(to_proto);
    message.ends_because = if message.ends_at.is_some() { life.ends_because } else { String::new() };
    message.position = life.position;
    message.requested_by = life.requested_by;
    message.expected_at = life.expected_at.filter(|_| life.position > 0).map(to_proto);
    message.gang_size = if alive { life.gang_size } else { 0 };
}

fn device(held: Held) -> v1::RuntimeDevice {
    v1::RuntimeDevice {
        name: held.name,
        hardware_id: held.hardware_id,
        class: held.class,
        model: held.model,
        milli: held.milli,
        memory_bytes: held.memory_bytes,
        enforcement: held.enforcement,
        healthy: held.healthy,
    }
}

/// Something that happened.
pub(crate) fn event(event: Event) -> v1::RuntimeEvent {
    v1::RuntimeEvent {
        at: Some(to_proto(event.at)),
        number: event.number,
        state: state(&event.state).into(),
        step: event.step,
        reason: event.reason,
        message: event.message,
        actor: event.actor,
    }
}
