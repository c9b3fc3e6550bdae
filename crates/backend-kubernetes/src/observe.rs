//! What is seen of a life, as a report. Pure: objects in, one level out.
//!
//! Refuses to act, and to remember.

use crate::{
    chip::Use,
    codes,
    life::{Grant, Life},
    names::{self, HOLDER},
    render::{app, pre_start},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod, PodStatus},
    resource::v1::{DeviceRequestAllocationResult, ResourceClaim},
};
use proto::internal::v1::RuntimePhase;

/// kube-scheduler has so long to agree with a pin; its own picture may be a little behind ours.
pub const PIN_PATIENCE: SignedDuration = SignedDuration::from_secs(20);
/// Of a pod that is gone or goes, and nobody told why.
const TAKEN: &str = "the pod was taken away by somebody else";

/// Everything that is there of one life.
#[derive(Debug, Default)]
pub struct Objects<'a> {
    /// Its claim.
    pub claim: Option<&'a ResourceClaim>,
    /// What the claim's allocation is of our chips.
    pub uses: Vec<Use>,
    /// Chips that were granted and are not published at present: what is allocated of them cannot be told.
    pub missing: Vec<String>,
    /// Its pod.
    pub pod: Option<&'a Pod>,
    /// Its pod was there before.
    pub pod_was_made: bool,
    /// Warnings about the pod, in any order.
    pub warnings: &'a [Event],
}

/// What is told of a life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// How far it is.
    pub phase: RuntimePhase,
    /// What is wrong; empty when nothing is.
    pub code: String,
    /// In words.
    pub message: String,
    /// Where the application answers.
    pub endpoint: String,
    /// Labels, claim and reservation are as they should be.
    pub bound: bool,
}

impl Seen {
    fn at(phase: RuntimePhase) -> Self {
        Self { phase, ..Self::default() }
    }

    fn with(phase: RuntimePhase, code: &str, message: impl Into<String>) -> Self {
        Self { phase, code: code.to_owned(), message: message.into(), ..Self::default() }
    }
}

/// What is seen of a life that is to run.
#[must_use]
pub fn observe(life: &Life, objects: &Objects<'_>, now: Timestamp) -> Seen {
    let allocated = objects.claim.is_some_and(|claim| claim.status.as_ref().is_some_and(|s| s.allocation.is_some()));
    let Some(pod) = objects.pod else {
        return match objects.claim {
            _ if objects.pod_was_made => Seen::with(RuntimePhase::Failed, codes::POD_LOST, TAKEN),
            None => Seen::at(RuntimePhase::Accepted),
            Some(_) => Seen::at(RuntimePhase::ClaimCreated),
        };
    };
    if allocated && !as_granted(&life.grants, objects) {
        let message = "the devices that were allocated are not those that were granted";
        return Seen::with(RuntimePhase::Misplaced, codes::PLACEMENT_CONFLICT, message);
    }
    let status = pod.status.clone().unwrap_or_default();
    let mut seen = match status.phase.as_deref() {
        Some("Succeeded" | "Failed") if was_asked_to_end(pod, &status) => disrupted(&status),
        Some("Succeeded") => Seen::with(RuntimePhase::Failed, codes::EXITED, "the application ended by itself"),
        Some("Failed") => failed(&status),
        _ if pod.metadata.deletion_timestamp.is_some() => disrupted(&status),
        _ if !is(&status, "PodScheduled") => {
            let trouble = if life.grants.is_empty() { None } else { of_claim(objects.claim) };
            waiting(pod, &status, trouble, now)
        }
        _ => starting(life, &status, allocated, objects.warnings),
    };
    if seen.phase == RuntimePhase::Ready && seen.code.is_empty() && !objects.missing.is_empty() {
        seen.code = codes::DEVICE_MISSING.to_owned();
        seen.message = format!("not published at present: {}", objects.missing.join(", "));
    }
    seen.bound = names::label(&pod.metadata, HOLDER) == Some(life.holder.to_string().as_str())
        && (life.grants.is_empty() || allocated && objects.claim.is_some_and(|claim| reserved(claim, pod)));
    seen
}

/// What stands in the way though kube-scheduler does not tell: it does not even try a pod whose claim is going, and while
/// it waits for devices to be ready there is only an event. So what it said last is about earlier.
fn of_claim(claim: Option<&ResourceClaim>) -> Option<(&'static str, &'static str)> {
    let Some(claim) = claim else { return Some((codes::CLAIM_MISSING, "the claim was taken away by somebody else")) };
    if claim.metadata.deletion_timestamp.is_some() {
        return Some((codes::CLAIM_DELETING, "the claim is being taken away by somebody else"));
    }
    is_awaited(claim).then_some((codes::DEVICE_NOT_READY, "the device is being made ready by its driver"))
}

/// Whether a device of it has to become ready, and did not tell so yet.
fn is_awaited(claim: &ResourceClaim) -> bool {
    let Some(status) = &claim.status else { return false };
    let results = status.allocation.iter().filter_map(|a| a.devices.as_ref()?.results.as_ref()).flatten();
    let told = |device: &DeviceRequestAllocationResult, wanted: &String| {
        let known = status.devices.iter().flatten();
        let of = known.filter(|d| (&d.driver, &d.pool, &d.device) == (&device.driver, &device.pool, &device.device));
        of.flat_map(|d| d.conditions.iter().flatten()).any(|c| c.type_ == *wanted && c.status == "True")
    };
    results.into_iter().any(|device| device.binding_conditions.iter().flatten().any(|wanted| !told(device, wanted)))
}

/// Not bound to a node yet.
fn waiting(pod: &Pod, status: &PodStatus, trouble: Option<(&'static str, &'static str)>, now: Timestamp) -> Seen {
    let said = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    let (code, words) = match (trouble, said.and_then(|condition| condition.message.as_deref())) {
        (Some(trouble), _) => trouble,
        (None, Some(message)) => codes::of_scheduler(message),
        (None, None) => return Seen::at(RuntimePhase::PodCreated),
    };
    let since = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let late = now.duration_since(since) >= PIN_PATIENCE;
    let phase =
        if late && codes::wants_another_place(code) { RuntimePhase::Misplaced } else { RuntimePhase::PodCreated };
    Seen::with(phase, code, words)
}

/// On its node: images, scripts, the application.
fn starting(life: &Life, status: &PodStatus, allocated: bool, warnings: &[Event]) -> Seen {
    let container = status.container_statuses.iter().flatten().next();
    let state = container.and_then(|container| container.state.as_ref());
    if let Some(ContainerState { running: Some(_), .. }) = state {
        let address = status.pod_ip.as_deref().unwrap_or_default();
        if is(status, "Ready") && !address.is_empty() {
            let endpoint = match address.contains(':') {
                true => format!("[{address}]:{}", app::port(&life.spec.app)),
                false => format!("{address}:{}", app::port(&life.spec.app)),
            };
            return Seen { endpoint, ..ready(life) };
        }
        return Seen::at(RuntimePhase::Starting);
    }
    // Before its script has ended, the application waits without a reason of its own.
    let script = status.init_container_statuses.iter().flatten().filter_map(|script| script.state.as_ref());
    let waits = script.chain(state).find_map(|state| state.waiting.as_ref());
    let reason = waits.and_then(|waits| waits.reason.as_deref()).unwrap_or_default();
    if let Some(code) = codes::of_node(reason) {
        return Seen::with(RuntimePhase::Pulling, code, waits.and_then(|w| w.message.clone()).unwrap_or_default());
    }
    let trouble = warnings.iter().filter_map(|event| Some((codes::of_node(event.reason.as_deref()?)?, event)));
    if let Some((code, event)) = trouble.max_by_key(|(_, event)| event.last_timestamp.as_ref().map(|time| time.0)) {
        return Seen::with(RuntimePhase::Pulling, code, event.message.clone().unwrap_or_default());
    }
    Seen::at(match state {
        Some(_) => RuntimePhase::Pulling,
        None if allocated || life.grants.is_empty() => RuntimePhase::ClaimAllocated,
        None => RuntimePhase::PodCreated,
    })
}

/// Up, but for what nobody could run before it.
fn ready(life: &Life) -> Seen {
    if app::post_start(life).is_empty() || !app::command(life).is_empty() {
        return Seen::at(RuntimePhase::Ready);
    }
    let message = "the post-start command and script were not run: the image starts by itself, and they are run by the command \
                   that starts it; name it in the spec";
    Seen::with(RuntimePhase::Ready, codes::POST_START_FAILED, message)
}

fn failed(status: &PodStatus) -> Seen {
    let terminated = status.container_statuses.iter().flatten().find_map(ended);
    if disrupted_by(status).is_some() {
        return disrupted(status);
    }
    if status.reason.as_deref() == Some("Evicted") {
        return evicted(status.message.as_deref().unwrap_or_default());
    }
    let scripts = status.init_container_statuses.iter().flatten().filter(|script| script.name == pre_start::NAME);
    if let Some(ended) = scripts.filter_map(ended).find(|ended| ended.exit_code != 0) {
        return script_failed(ended);
    }
    if terminated.is_none()
        && let Some(reason) = status.reason.as_deref().filter(|reason| !reason.is_empty())
    {
        return turned_away(reason, status.message.as_deref().unwrap_or_default());
    }
    let (reason, code) = terminated.map_or((None, 0), |ended| (ended.reason.as_deref(), ended.exit_code));
    let message = terminated.and_then(|ended| ended.message.clone());
    let message = message.or_else(|| status.message.clone()).unwrap_or_default();
    if reason == Some("OOMKilled") {
        return Seen::with(RuntimePhase::Failed, codes::OUT_OF_MEMORY, "it used more memory than it may");
    }
    Seen::with(RuntimePhase::Failed, codes::APP_FAILED, format!("ended with code {code}: {}", message.trim()))
}

/// The kubelet ended the pod, and no condition says that it is a disruption: for what the pod did itself.
fn evicted(message: &str) -> Seen {
    let code = codes::of_eviction(message);
    let what = if code == codes::EVICTED { "its node evicted it" } else { "it filled more disk than it may" };
    Seen::with(RuntimePhase::Failed, code, format!("{what}: {}", message.trim()))
}

/// The kubelet did not take the pod, so that nothing of it began: the place is not to be had, and it is no fault of the
/// application.
fn turned_away(reason: &str, message: &str) -> Seen {
    Seen::with(RuntimePhase::Misplaced, codes::of_refusal(reason), format!("{reason}: {message}"))
}

/// Whether the pod was told to go before its containers had ended: by somebody else, since a life that is to run is not ended
/// here. A code with which they ended within their grace says nothing about the application.
fn was_asked_to_end(pod: &Pod, status: &PodStatus) -> bool {
    let Some(due) = pod.metadata.deletion_timestamp.as_ref() else { return false };
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or_default());
    let asked = due.0.checked_sub(grace).unwrap_or(due.0);
    let mut ends = status.container_statuses.iter().flatten().filter_map(|c| ended(c)?.finished_at.as_ref());
    // What ended before may be told late, by an executor that begins.
    !ends.any(|end| end.0 < asked)
}

fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

/// The pre-start script, and so nothing after it was run.
fn script_failed(ended: &ContainerStateTerminated) -> Seen {
    let code = if ended.exit_code == pre_start::REFUSED { codes::PRE_START_REFUSED } else { codes::PRE_START_FAILED };
    let said = ended.message.as_deref().unwrap_or_default().trim();
    // Of what was said, the last line is of what ran the script, and the rest is the script's.
    let (output, last) = said.rsplit_once('\n').unwrap_or(("", said));
    let message = match (ended.reason.as_deref(), ended.exit_code) {
        (Some("OOMKilled"), _) => "the pre-start script used more memory than it may".to_owned(),
        (_, pre_start::REFUSED) if !said.is_empty() => last.to_owned(),
        (_, pre_start::FAILED) if !said.is_empty() => {
            quoted(&format!("the pre-start script failed: {last}"), output.trim_end())
        }
        (reason, exit_code) => {
            let reason = reason.unwrap_or("no reason was told");
            let how = format!("the pre-start script ended with code {exit_code} ({reason})");
            if said.is_empty() { how } else { format!("{how}: {said}") }
        }
    };
    Seen::with(RuntimePhase::Failed, code, message)
}

/// How a script ended, and the last line that it printed before the rest: that tells most.
pub(crate) fn quoted(how: &str, output: &str) -> String {
    match output.rsplit_once('\n') {
        None if output.is_empty() => how.to_owned(),
        None => format!("{how}; its last line: {output}"),
        Some((_, last)) => format!("{how}; its last line: {last}\nthe end of its output:\n{output}"),
    }
}

/// Somebody else ends the pod.
fn disrupted(status: &PodStatus) -> Seen {
    let (code, message) = disrupted_by(status).unwrap_or((codes::POD_LOST, TAKEN.to_owned()));
    Seen::with(RuntimePhase::Failed, code, message)
}

fn disrupted_by(status: &PodStatus) -> Option<(&'static str, String)> {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    let (code, what) = match condition.reason.as_deref() {
        Some("DeletionByDeviceTaintManager") => (codes::DEVICE_FAILED, ""),
        Some("DeletionByTaintManager" | "DeletionByPodGC") => (codes::NODE_LOST, ""),
        Some("EvictionByEvictionAPI") => (codes::EVICTED, "its node is being emptied, or somebody evicted it: "),
        Some("TerminationByKubelet") => (codes::EVICTED, "its node ran short of something, or goes down: "),
        Some("PreemptionByScheduler") => (codes::EVICTED, "kube-scheduler wanted its place for another pod: "),
        _ => (codes::POD_LOST, ""),
    };
    let said = [&condition.message, &condition.reason].into_iter().flatten().find(|said| !said.is_empty());
    Some((code, format!("{what}{}", said.map_or(TAKEN, String::as_str))))
}

fn is(status: &PodStatus, condition: &str) -> bool {
    status.conditions.iter().flatten().any(|known| known.type_ == condition && known.status == "True")
}

fn reserved(claim: &ResourceClaim, pod: &Pod) -> bool {
    let reserved = claim.status.as_ref().and_then(|status| status.reserved_for.as_ref());
    reserved.into_iter().flatten().any(|consumer| Some(&consumer.uid) == pod.metadata.uid.as_ref())
}

/// Whether an allocation gives each chip that was granted, and no other, and no less of it; as far as it can be told.
fn as_granted(grants: &[Grant], Objects { uses, missing, .. }: &Objects<'_>) -> bool {
    let (untold, told): (Vec<&Grant>, Vec<&Grant>) = grants.iter().partition(|grant| missing.contains(&grant.device));
    let gives =
        |grant: &Grant, used: &Use| used.chip == grant.device && used.slots == grant.slots && used.milli >= grant.milli;
    untold.len() + uses.len() == grants.len() && told.iter().all(|grant| uses.iter().any(|used| gives(grant, used)))
}

#[cfg(test)]
mod tests;
