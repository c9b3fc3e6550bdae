//! What is seen of a Job and its pods, as a phase. Pure: objects in, one phase out.
//!
//! Refuses to act, and to remember.

use super::SLOW_AFTER;
use crate::codes;
use ::backend::{Ended, Phase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::{ContainerState, Event, Pod, PodStatus},
};
use std::sync::Arc;

/// What does not become well in so long after a pod was bound never will: an image, a setting, a volume.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);
/// Beyond the end of its grace a pod is not awaited for longer: nobody may tell that its node is lost.
const OVERDUE: SignedDuration = SignedDuration::from_secs(120);
/// Bytes of what a container wrote last.
const OUTPUT_BYTES_MAX: usize = 1_024;

/// How an attempt's container does.
pub(super) fn phase(job: Option<&Job>, pods: &[Arc<Pod>], warnings: &[Event], now: Timestamp) -> Phase {
    let (ended, living): (Vec<&Arc<Pod>>, Vec<_>) = pods.iter().partition(|pod| has_ended(pod));
    // While one of them lives nothing has ended.
    if let Some(pod) = living.first() {
        return of_living(pod, warnings, now);
    }
    if let Some(pod) = ended.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0)) {
        return Phase::Ended(of_ended(pod));
    }
    let Some(job) = job else { return Phase::Absent };
    if let Some(failed) = failed(job) {
        let reason = match failed.reason.as_deref() {
            // A pod that is gone counts as one that failed.
            Some("BackoffLimitExceeded") => "somebody else removed its pod".to_owned(),
            reason => format!("its pod is gone: {}", failed.message.as_deref().or(reason).unwrap_or_default()),
        };
        return Phase::Ended(Ended::Evicted { reason });
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Phase::Absent;
    }
    Phase::Waiting { reason: latest(warnings).map(|event| said(event, "POD_REFUSED")).unwrap_or_default() }
}

/// What the Job says of its failure.
pub(super) fn failed(job: &Job) -> Option<&JobCondition> {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.type_ == "Failed" && condition.status == "True")
}

/// The object whose events tell why nothing has begun; none where the rest tells enough.
pub(super) fn asks_why(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Option<String> {
    let slow =
        |since: Option<Timestamp>| since.is_some_and(|since| now.duration_since(since).unsigned_abs() >= SLOW_AFTER);
    match pods.iter().find(|pod| !has_ended(pod)) {
        None if pods.is_empty() && slow(job.metadata.creation_timestamp.as_ref().map(|time| time.0)) => {
            job.metadata.uid.clone()
        }
        Some(pod) if !has_begun(pod) && slow(bound_at(pod)) => pod.metadata.uid.clone(),
        _ => None,
    }
}

fn of_living(pod: &Pod, warnings: &[Event], now: Timestamp) -> Phase {
    let status = pod.status.clone().unwrap_or_default();
    // When its grace is over; a node that answers ends it then.
    if let Some(due) = pod.metadata.deletion_timestamp.as_ref() {
        if let Some((true, reason)) = disrupted(&status) {
            return Phase::Ended(Ended::Lost { reason });
        }
        if now.duration_since(due.0) >= OVERDUE {
            let reason = format!("its node does not end it: {}", node(pod));
            return Phase::Ended(Ended::Lost { reason });
        }
    }
    if has_begun(pod) {
        return Phase::Running;
    }
    let Some(bound_at) = bound_at(pod) else {
        let said = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let message = said.and_then(|condition| condition.message.as_deref());
        let reason = message.map(codes::of_scheduler).map(|(code, words)| format!("{code}: {words}"));
        return Phase::Waiting { reason: reason.unwrap_or_default() };
    };
    let state = status.container_statuses.iter().flatten().find_map(|container| container.state.as_ref());
    let waits = state.and_then(|state| state.waiting.as_ref());
    let trouble = waits.and_then(|waits| {
        let code = codes::of_node(waits.reason.as_deref()?)?;
        Some(format!("{code}: {}", waits.message.as_deref().unwrap_or_default()))
    });
    let event = || {
        let known = |event: &&Event| event.reason.as_deref().and_then(codes::of_node).is_some();
        latest(warnings.iter().filter(known)).map(|event| said(event, ""))
    };
    match trouble.or_else(event) {
        Some(reason) if now.duration_since(bound_at) >= PATIENCE => Phase::Ended(Ended::Unstartable { reason }),
        Some(reason) => Phase::Waiting { reason },
        None => Phase::Waiting { reason: String::new() },
    }
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("none")
}

fn of_ended(pod: &Pod) -> Ended {
    let status = pod.status.clone().unwrap_or_default();
    let ended =
        status.container_statuses.iter().flatten().find_map(|container| container.state.as_ref()?.terminated.as_ref());
    if ended.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled")) {
        return Ended::OutOfMemory;
    }
    match disrupted(&status) {
        Some((true, reason)) => return Ended::Lost { reason },
        Some((false, reason)) => return Ended::Evicted { reason },
        None => {}
    }
    if status.reason.as_deref() == Some("Evicted") {
        return Ended::Evicted { reason: status.message.unwrap_or_default() };
    }
    match ended {
        Some(ended) => {
            let output = ended.message.as_deref().unwrap_or_default().trim();
            let from = output.ceil_char_boundary(output.len().saturating_sub(OUTPUT_BYTES_MAX));
            Ended::Exited { code: ended.exit_code, output: output[from..].to_owned() }
        }
        None => Ended::Evicted { reason: status.message.or(status.reason).unwrap_or_default() },
    }
}

/// Somebody else ends the pod: whether its node was given up, and why.
fn disrupted(status: &PodStatus) -> Option<(bool, String)> {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    let reason = condition.reason.as_deref().unwrap_or_default();
    let lost = matches!(reason, "DeletionByTaintManager" | "DeletionByPodGC");
    Some((lost, condition.message.clone().unwrap_or_else(|| reason.to_owned())))
}

/// Nothing of it runs any more.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn has_begun(pod: &Pod) -> bool {
    let mut containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let begun = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    containers.any(|container| container.state.as_ref().is_some_and(begun))
}

/// When it was given a node.
fn bound_at(pod: &Pod) -> Option<Timestamp> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let scheduled = |c: &&k8s_openapi::api::core::v1::PodCondition| c.type_ == "PodScheduled" && c.status == "True";
    let found = conditions.find(scheduled)?;
    let created = pod.metadata.creation_timestamp.as_ref();
    found.last_transition_time.as_ref().or(created).map(|time| time.0)
}

fn latest<'a>(warnings: impl IntoIterator<Item = &'a Event>) -> Option<&'a Event> {
    let at = |event: &&Event| {
        let seen = event.last_timestamp.as_ref().map(|time| time.0);
        seen.or(event.event_time.as_ref().map(|time| time.0))
    };
    warnings.into_iter().max_by_key(at)
}

fn said(event: &Event, otherwise: &str) -> String {
    let code = event.reason.as_deref().and_then(codes::of_node).unwrap_or(otherwise);
    format!("{code}: {}", event.message.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests;
