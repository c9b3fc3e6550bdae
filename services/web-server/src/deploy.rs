//! Makes a bundle the code of a workspace: one bad pipeline is reported and keeps its last good version, the same bundle
//! again changes nothing, and all of it is one transaction under the workspace's lock. Refuses to run any code.

mod plan;

use crate::bundles;
use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::quota;
use domain::{ErrorKind, id::WorkspaceId};
use plan::{Act, Step};
use project::bundle::Manifest;
use project::{Diagnostic, Project, Severity};
use proto::v1::{
    self, CreateDeploymentRequest, CreateDeploymentResponse, DeployedTrigger, DiagnosticSeverity, PipelineChange,
};
use rpc::status::Problem;
use std::collections::HashMap;
use store::Transaction;
use store::{deployments, limits, pipelines, triggers, workspaces};

/// Deploys, or only reports what a deployment would do.
pub(crate) async fn deploy(
    core: &Core,
    caller: &Caller,
    mut request: CreateDeploymentRequest,
) -> Result<CreateDeploymentResponse, Fault> {
    let key = idempotent::Key::of(caller, "CreateDeployment", &request.idempotency_key, &request)?;
    let workspace = core.workspace(&request.workspace).await?;
    let (manifest, warnings) = bundles::manifest(request.manifest.take(), &core.limits)?;
    let digest = manifest.digest();
    bundles::require_files(core, &manifest).await?;
    let mut project = bundles::read(core, &manifest).await?;
    project.diagnostics.extend(warnings);
    project.diagnostics.extend(plan::reserved_triggers(&project));
    project.diagnostics.extend(plan::unusable_notifications(&project));
    refuse_unreadable(&project)?;
    if request.validate_only {
        let db = core.store.client().await?;
        let steps = plan::steps(&project, &digest, pipelines::heads(&db, workspace.id).await?)?;
        refuse_empty(&project, &steps, request.empty)?;
        return Ok(response(&project, &digest, steps, HashMap::new()));
    }
    bundles::keep(core, &manifest, &digest).await?;
    let mut db = core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    if let Some(answer) = key.answered(&transaction).await? {
        return Ok(answer);
    }
    let answer = apply(core, &transaction, &request, &manifest, &project).await?;
    key.record(&transaction, &answer).await?;
    transaction.commit().await.map_err(store::Error::from)?;
    let changed = answer.pipelines.iter().filter(|p| p.change != v1::PipelineChange::Unchanged as i32).count();
    tracing::info!(workspace = request.workspace, bundle = digest, changed, "deployed");
    Ok(answer)
}

/// A folder that could not be looked into has no pipelines to archive the others for.
fn refuse_unreadable(project: &Project) -> Result<(), Fault> {
    let first = project.diagnostics.iter().find(|d| d.severity == Severity::Error && d.pipeline.is_empty());
    match first {
        Some(diagnostic) if project.pipelines.is_empty() => {
            let message = format!("the project cannot be read and nothing was changed: {diagnostic}");
            Err(Fault::new(ErrorKind::FailedPrecondition, "PROJECT_UNREADABLE", message))
        }
        _ => Ok(()),
    }
}

/// A wrong folder, or one that is being moved, looks like one whose pipelines were all removed.
fn refuse_empty(project: &Project, steps: &[Step], meant: bool) -> Result<(), Fault> {
    if meant || !project.pipelines.is_empty() || steps.is_empty() {
        return Ok(());
    }
    let found = project.diagnostics.iter().find(|d| d.file == project::PIPELINES);
    let (why, remedy) =
        found.map_or(("there are no pipelines", "name another folder"), |d| (d.message.as_str(), d.remedy.as_str()));
    let message = format!(
        "nothing was changed, since it would archive every pipeline of the workspace ({} in all): {why}",
        steps.len()
    );
    let remedy = format!("{remedy}; `orrery deploy --empty` archives them");
    Err(Problem::new(ErrorKind::FailedPrecondition, "PROJECT_EMPTY", message).remedy(remedy).into())
}

async fn apply(
    core: &Core,
    db: &Transaction<'_>,
    request: &CreateDeploymentRequest,
    manifest: &Manifest,
    project: &Project,
) -> Result<CreateDeploymentResponse, Fault> {
    let workspace = &request.workspace;
    let workspace = workspaces::lock(db, workspace).await?.ok_or_else(|| Fault::no_workspace(workspace))?;
    let digest = manifest.digest();
    let bundle = deployments::Bundle {
        digest: digest.clone(),
        project_name: manifest.project_name.clone(),
        file_count: i32::try_from(manifest.files.len()).unwrap_or(i32::MAX),
        size_bytes: i64::try_from(manifest.total_bytes()).unwrap_or(i64::MAX),
    };
    deployments::insert_bundle(db, &bundle).await?;
    let steps = plan::steps(project, &digest, pipelines::heads(db, workspace.id).await?)?;
    refuse_empty(project, &steps, request.empty)?;
    let mut triggers = HashMap::new();
    for step in &steps {
        let wanted = plan::desired_triggers(project, &step.pipeline, &core.environment)?;
        let changes = perform(db, workspace.id, &digest, step, &wanted).await?;
        triggers.insert(step.pipeline.clone(), changes);
    }
    limits::set_desired(db, workspace.id, &project.metadata.limits).await?;
    // Last, so that others who charge the project wait for little. Files that others have brought count here as well.
    quota::charge(core, db, workspace.project_id, &bundles::counted(manifest)).await?;
    let deployed_at = deployments::deploy(db, workspace.id, &digest).await?;
    let deployed_at = Some(rpc::timestamp::to_proto(deployed_at));
    Ok(CreateDeploymentResponse { deployed_at, ..response(project, &digest, steps, triggers) })
}

async fn perform(
    db: &Transaction<'_>,
    workspace: WorkspaceId,
    digest: &str,
    step: &Step,
    wanted: &plan::WantedTriggers,
) -> Result<Vec<DeployedTrigger>, Fault> {
    let id = match &step.act {
        Act::Create(spec) => pipelines::insert(db, workspace, &step.pipeline, digest, spec).await?,
        Act::Raise(head, spec) => {
            // The workspace's lock is held, so nobody else raised it.
            pipelines::raise(db, head, digest, spec).await?.ok_or_else(|| conflict(&step.pipeline))?;
            head.id
        }
        Act::Keep(id) => *id,
        Act::Archive(id) => {
            pipelines::archive(db, *id).await?;
            triggers::retire(db, *id).await?;
            return Ok(Vec::new());
        }
        Act::Leave => return Ok(Vec::new()),
    };
    let changes = triggers::set_desired(db, id, &wanted.desired, wanted.unread.as_deref()).await?;
    let changes = changes.into_iter().map(|(trigger, change)| (trigger, plan::told(change)));
    let rejected = wanted.unread.iter().flatten().map(|name| (name.clone(), PipelineChange::Rejected));
    let deployed = |(trigger, change): (String, PipelineChange)| DeployedTrigger { trigger, change: change.into() };
    Ok(changes.chain(rejected).map(deployed).collect())
}

fn conflict(pipeline: &str) -> Fault {
    let message = format!("pipeline `{pipeline}` changed during the deployment; deploy again");
    Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message)
}

fn response(
    project: &Project,
    digest: &str,
    steps: Vec<Step>,
    mut triggers: HashMap<String, Vec<DeployedTrigger>>,
) -> CreateDeploymentResponse {
    let pipeline = |step: Step| v1::DeployedPipeline {
        triggers: triggers.remove(&step.pipeline).unwrap_or_default(),
        pipeline: step.pipeline,
        version: step.version,
        change: step.change.into(),
    };
    CreateDeploymentResponse {
        bundle_digest: digest.to_owned(),
        deployed_at: None,
        pipelines: steps.into_iter().map(pipeline).collect(),
        diagnostics: project.diagnostics.iter().map(diagnostic).collect(),
    }
}

fn diagnostic(diagnostic: &Diagnostic) -> v1::Diagnostic {
    let severity = match diagnostic.severity {
        Severity::Warning => DiagnosticSeverity::Warning,
        Severity::Error => DiagnosticSeverity::Error,
    };
    v1::Diagnostic {
        severity: severity.into(),
        file: diagnostic.file.clone(),
        key: diagnostic.key.clone(),
        line: i32::try_from(diagnostic.line).unwrap_or(0),
        message: diagnostic.message.clone(),
        remedy: diagnostic.remedy.clone(),
        pipeline: diagnostic.pipeline.clone(),
    }
}
