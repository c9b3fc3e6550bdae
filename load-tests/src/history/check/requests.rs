//! C2: each acknowledged request has exactly one run, each other one at most one.

use super::Findings;
use crate::history::{Call, ClientEvent, Firing, History, Request};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The firings of a key, and which runs are there.
struct Index<'a> {
    firings: HashMap<(Uuid, &'a str), Vec<&'a Firing>>,
    runs: HashSet<Uuid>,
    /// The trigger that requests for a pipeline itself belong to.
    manual: HashMap<(&'a str, &'a str), Uuid>,
}

pub(super) fn check(history: &History, findings: &mut Findings) {
    let index = Index::new(history);
    // What was answered to one key by the first acknowledgement.
    let mut answered: HashMap<(Uuid, String), Uuid> = HashMap::new();
    for call in &history.calls {
        match &call.request {
            Request::CreateRun { workspace, pipeline, key } => {
                let Some(trigger) = index.manual.get(&(workspace.as_str(), pipeline.as_str())) else {
                    if acknowledged(call).is_some() {
                        findings.violation(pipeline, "a run was acknowledged for a pipeline that is not there");
                    }
                    continue;
                };
                check_call(&index, call, *trigger, &format!("key:{key}"), &mut answered, findings);
            }
            Request::CallTrigger { trigger_id, key } => {
                check_call(&index, call, *trigger_id, &format!("key:{key}"), &mut answered, findings);
            }
            Request::PublishEvent { key, matches } => check_event(&index, call, key, matches, findings),
            Request::CreateBackfill { workspace, pipeline, name } => {
                check_backfill(history, call, (workspace, pipeline, name), findings);
            }
            Request::ChangeTrigger { .. } | Request::RetryRun { .. } | Request::CancelRun { .. } => {}
        }
    }
}

impl<'a> Index<'a> {
    fn new(history: &'a History) -> Self {
        let mut firings: HashMap<(Uuid, &str), Vec<&Firing>> = HashMap::with_capacity(history.firings.len());
        for firing in &history.firings {
            firings.entry((firing.trigger_id, firing.logical_key.as_str())).or_default().push(firing);
        }
        let of_pipeline: HashMap<Uuid, Uuid> = history
            .triggers
            .iter()
            .filter(|trigger| trigger.kind == "manual")
            .map(|trigger| (trigger.pipeline_id, trigger.id))
            .collect();
        let manual = history
            .pipelines
            .iter()
            .filter_map(|pipeline| {
                let trigger = of_pipeline.get(&pipeline.id)?;
                Some(((pipeline.workspace.as_str(), pipeline.name.as_str()), *trigger))
            })
            .collect();
        Self { firings, runs: history.runs.iter().map(|run| run.id).collect(), manual }
    }

    fn of<'b>(&'b self, trigger: Uuid, key: &'b str) -> &'b [&'a Firing] {
        self.firings.get(&(trigger, key)).map(Vec::as_slice).unwrap_or_default()
    }
}

fn acknowledged(call: &Call) -> Option<(Option<Uuid>, Option<&str>)> {
    match &call.answer.as_ref()?.event {
        ClientEvent::Acknowledged { run_id, instead, .. } => Some((*run_id, instead.as_deref())),
        _ => None,
    }
}

fn check_call(
    index: &Index<'_>,
    call: &Call,
    trigger: Uuid,
    key: &str,
    answered: &mut HashMap<(Uuid, String), Uuid>,
    findings: &mut Findings,
) {
    let keyless = key == "key:";
    let firings = if keyless { &[] } else { index.of(trigger, key) };
    if firings.len() > 1 {
        findings.violation(trigger, format!("{key} was decided {} times", firings.len()));
    }
    let Some((run, instead)) = acknowledged(call) else {
        return findings.looked("requests without an acknowledgement", 1);
    };
    findings.looked("acknowledged requests", 1);
    match run {
        Some(run) if !index.runs.contains(&run) => {
            findings.violation(run, format!("the run was acknowledged for {key} and is not there"));
        }
        Some(run) if !keyless => {
            if firings.first().is_some_and(|firing| firing.run_id != Some(run)) || firings.is_empty() {
                findings.violation(run, format!("the run was acknowledged for {key}, which has another one or none"));
            }
            let first = *answered.entry((trigger, key.to_owned())).or_insert(run);
            if first != run {
                findings.violation(run, format!("{key} was answered with this run, and with {first} before"));
            }
        }
        // A start that waits is decided later, a skipped one never starts.
        None if instead == Some("waiting") => {}
        None if !keyless && firings.is_empty() => {
            findings.violation(trigger, format!("{key} was acknowledged and never decided"));
        }
        _ => {}
    }
}

/// A backfill that was acknowledged is there, once; its name is nobody else's.
fn check_backfill(history: &History, call: &Call, of: (&str, &str, &str), findings: &mut Findings) {
    if acknowledged(call).is_none() {
        return findings.looked("requests without an acknowledgement", 1);
    }
    findings.looked("acknowledged backfills", 1);
    let (workspace, pipeline, name) = of;
    let is_of = |id| {
        let found = history.pipelines.iter().find(|other| other.id == id);
        found.is_some_and(|other| other.workspace == workspace && other.name == pipeline)
    };
    let there = history.backfills.iter().filter(|backfill| backfill.name == name && is_of(backfill.pipeline_id));
    match there.count() {
        1 => {}
        count => findings.violation(name, format!("the backfill was acknowledged, and there are {count} of its name")),
    }
}

/// Each trigger that its sender knows to match has decided about an acknowledged event, and each of its key only once.
fn check_event(index: &Index<'_>, call: &Call, key: &str, matches: &[Uuid], findings: &mut Findings) {
    let Some(answer) = &call.answer else { return findings.looked("requests without an acknowledgement", 1) };
    let ClientEvent::Acknowledged { started, .. } = &answer.event else {
        return findings.looked("requests without an acknowledgement", 1);
    };
    findings.looked("acknowledged events", 1);
    let logical_key = format!("event-key:{key}");
    for trigger in matches.iter().filter(|_| !key.is_empty()) {
        let decided = index.of(*trigger, &logical_key).len();
        if decided != 1 {
            let what = format!("{logical_key} was acknowledged, matches, and was decided {decided} times");
            findings.violation(trigger, what);
        }
    }
    for (trigger, run) in started {
        let firings = if key.is_empty() { &[] } else { index.of(*trigger, &logical_key) };
        if firings.len() > 1 {
            findings.violation(trigger, format!("{logical_key} was decided {} times", firings.len()));
        }
        let Some(run) = run else { continue };
        if !index.runs.contains(run) {
            findings.violation(run, format!("the run was acknowledged for {logical_key} and is not there"));
        } else if !key.is_empty() && firings.first().is_none_or(|firing| firing.run_id != Some(*run)) {
            findings
                .violation(run, format!("the run was acknowledged for {logical_key}, which has another one or none"));
        }
        findings.looked("runs of events", 1);
    }
}
