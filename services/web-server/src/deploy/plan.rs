//! What a deployment does to each pipeline of a workspace. Pure: what is there and what came in, in; steps out.

use crate::fault::Fault;
use crate::triggers::token;
use domain::{id::PipelineId, trigger::Kind};
use project::{Diagnostic, LoadedPipeline, Project, Severity, Trigger, Unread};
use proto::v1::PipelineChange;
use serde_json::Value;
use std::collections::BTreeMap;
use store::pipelines::Head;
use store::triggers::{Change, Desired, MANUAL};

/// What happens to one pipeline.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its name.
    pub(crate) pipeline: String,
    /// The version in force afterwards; 0 when it has none.
    pub(crate) version: i64,
    /// As it is told.
    pub(crate) change: PipelineChange,
    /// As it is done.
    pub(crate) act: Act,
}

/// What is done to one pipeline.
#[derive(Debug)]
pub(crate) enum Act {
    /// A first version.
    Create(Value),
    /// The version after this one.
    Raise(Head, Value),
    /// Only its triggers may change.
    Keep(PipelineId),
    /// Out of force.
    Archive(PipelineId),
    /// Nothing at all.
    Leave,
}

/// The steps in order of names.
pub(crate) fn steps(project: &Project, digest: &str, heads: Vec<Head>) -> Result<Vec<Step>, Fault> {
    let mut heads: BTreeMap<String, Head> = heads.into_iter().map(|head| (head.name.clone(), head)).collect();
    let mut steps = Vec::with_capacity(project.pipelines.len());
    for loaded in &project.pipelines {
        steps.push(step(loaded, digest, heads.remove(&loaded.name))?);
    }
    steps.extend(heads.into_values().filter(|head| !head.archived).map(|head| Step {
        pipeline: head.name,
        version: head.version,
        change: PipelineChange::Archived,
        act: Act::Archive(head.id),
    }));
    steps.sort_by(|a, b| a.pipeline.cmp(&b.pipeline));
    Ok(steps)
}

fn step(loaded: &LoadedPipeline, digest: &str, head: Option<Head>) -> Result<Step, Fault> {
    let pipeline = loaded.name.clone();
    let Ok(definition) = &loaded.definition else {
        let version = head.filter(|head| !head.archived).map_or(0, |head| head.version);
        return Ok(Step { pipeline, version, change: PipelineChange::Rejected, act: Act::Leave });
    };
    let spec = serde_json::to_value(definition).map_err(|e| Fault::internal(&e))?;
    let Some(head) = head else {
        return Ok(Step { pipeline, version: 1, change: PipelineChange::Created, act: Act::Create(spec) });
    };
    // Compared as values: the database does not keep a document letter by letter.
    let same = head.bundle_digest == digest && head.pipeline().is_ok_and(|current| current == *definition);
    if same && !head.archived {
        return Ok(Step {
            pipeline,
            version: head.version,
            change: PipelineChange::Unchanged,
            act: Act::Keep(head.id),
        });
    }
    let change = if head.archived { PipelineChange::Created } else { PipelineChange::Updated };
    Ok(Step { pipeline, version: head.version + 1, change, act: Act::Raise(head, spec) })
}

/// What a pipeline's file says of its triggers.
#[derive(Debug)]
pub(crate) struct WantedTriggers {
    /// Those that it tells, and that hold in this environment.
    pub(crate) desired: Vec<Desired>,
    /// Others that stay as they are; `None` when it is not known which.
    pub(crate) unread: Option<Vec<String>>,
}

/// The triggers that a pipeline's file wants in this environment. One that is not there wants none.
pub(crate) fn desired_triggers(project: &Project, pipeline: &str, environment: &str) -> Result<WantedTriggers, Fault> {
    let Some(loaded) = project.pipelines.iter().find(|p| p.name == pipeline) else {
        return Ok(WantedTriggers { desired: Vec::new(), unread: Some(Vec::new()) });
    };
    let holds = |trigger: &&Trigger| trigger.name != MANUAL && trigger.holds_in(environment);
    let desired = loaded.triggers.iter().filter(holds).map(desired).collect::<Result<_, _>>()?;
    let unread = match &loaded.unread_triggers {
        Unread::Named(names) => Some(names.iter().filter(|name| *name != MANUAL).cloned().collect()),
        Unread::Any => None,
    };
    Ok(WantedTriggers { desired, unread })
}

/// What became of a trigger, as it is told.
pub(crate) fn told(change: Change) -> PipelineChange {
    match change {
        Change::Created => PipelineChange::Created,
        Change::Updated => PipelineChange::Updated,
        Change::Archived => PipelineChange::Archived,
    }
}

fn desired(trigger: &Trigger) -> Result<Desired, Fault> {
    let spec = trigger.definition().map_err(|invalid| Fault::internal(&invalid))?;
    let document = serde_json::to_value(&spec).map_err(|e| Fault::internal(&e))?;
    let token = trigger.token.as_ref().filter(|_| spec.kind == Kind::Api).map(|token| token::stored(&token.0));
    Ok(Desired { name: trigger.name.clone(), active: trigger.active, spec, document, token })
}

/// Triggers that took the name of the built-in one and are left out.
pub(crate) fn reserved_triggers(project: &Project) -> Vec<Diagnostic> {
    let taken = |p: &&LoadedPipeline| p.triggers.iter().any(|trigger| trigger.name == MANUAL);
    let diagnostic = |p: &LoadedPipeline| Diagnostic {
        severity: Severity::Warning,
        file: format!("pipelines/{}/triggers.yaml", p.name),
        key: String::new(),
        line: 0,
        message: format!("the trigger name `{MANUAL}` belongs to the built-in trigger; this one is left out"),
        remedy: "give it another name".to_owned(),
        pipeline: p.name.clone(),
    };
    project.pipelines.iter().filter(taken).map(diagnostic).collect()
}

/// Settings of notifications by which nobody can be told.
pub(crate) fn unusable_notifications(project: &Project) -> Vec<Diagnostic> {
    let diagnostic = |p: &LoadedPipeline| {
        let config = &p.definition.as_ref().ok()?.notification_config;
        let error = notify::Config::parse(config).err()?;
        Some(Diagnostic {
            severity: Severity::Warning,
            file: format!("pipelines/{}/metadata.yaml", p.name),
            key: format!("notification_config.{}", error.key),
            line: 0,
            message: format!("nobody is told of this pipeline's runs: {error}"),
            remedy: "correct it here, or in the project's metadata.yaml".to_owned(),
            pipeline: p.name.clone(),
        })
    };
    project.pipelines.iter().filter_map(diagnostic).collect()
}
