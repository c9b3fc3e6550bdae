//! `orrery deploy`: only files that the cluster lacks travel.

use crate::{
    arguments::deploy::Deploy,
    connection::{CALL_TIMEOUT, Connection, UPLOAD_TIMEOUT},
    failure::{Code, Failure, Result},
    render::{Output, line, style::Style, style::harmless},
};
use project::bundle::{self, ManifestFile};
use proto::v1::{
    CreateDeploymentRequest, CreateDeploymentResponse, Diagnostic, DiagnosticSeverity, FileHeader, Manifest,
    PipelineChange, PlanDeploymentRequest, UploadFilesRequest, upload_files_request::Part,
};
use rpc::client;
use std::{collections::HashSet, fs::File, io::Read, path::Path};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Below the limit of 1 MiB that the API sets.
const CHUNK_BYTES: usize = 512 * 1024;
/// Chunks that wait for the network.
const CHUNKS_AHEAD: usize = 4;

/// Deploys or validates, and reports.
pub(crate) async fn run(connection: &Connection, output: &Output, options: &Deploy) -> Result<Code> {
    let scanned = scan(&options.directory).await?;
    warn(&scanned, output.style);
    let response = deploy(connection, &scanned.manifest, options).await?;
    let told = || report(&response, output.style, options.validate_only);
    output.answer("orrery.v1.CreateDeploymentResponse", &response, told)?;
    Ok(if has_errors(&response) { Code::Data } else { Code::Ok })
}

/// Lists and hashes the folder.
pub(crate) async fn scan(directory: &Path) -> Result<bundle::Scanned> {
    let folder = directory.to_path_buf();
    let scanned = tokio::task::spawn_blocking(move || bundle::scan(&folder)).await;
    let scanned = scanned.map_err(|e| Failure::new(Code::Internal, e, ""))?;
    scanned.map_err(|e| Failure::new(Code::Data, e, format!("check {}", directory.display())))
}

/// Says on stderr what was left out and should be known.
pub(crate) fn warn(scanned: &bundle::Scanned, style: Style) {
    if let Some(warning) = scanned.warning() {
        eprintln!("{} {warning}", style.warn("warning"));
    }
}

/// Brings the folder into the workspace.
pub(crate) async fn deploy(
    connection: &Connection,
    manifest: &bundle::Manifest,
    options: &Deploy,
) -> Result<CreateDeploymentResponse> {
    let message = to_proto(manifest);
    let plan = PlanDeploymentRequest { workspace: connection.workspace.clone(), manifest: Some(message.clone()) };
    let plan = connection.deployments().plan_deployment(client::within(CALL_TIMEOUT, plan)).await?.into_inner();
    if !plan.missing_sha256.is_empty() {
        upload(connection, &options.directory, manifest, plan.missing_sha256).await?;
    }
    let create = CreateDeploymentRequest {
        workspace: connection.workspace.clone(),
        manifest: Some(message),
        validate_only: options.validate_only,
        idempotency_key: String::new(),
        empty: options.empty,
    };
    Ok(connection.deployments().create_deployment(client::within(UPLOAD_TIMEOUT, create)).await?.into_inner())
}

fn to_proto(manifest: &bundle::Manifest) -> Manifest {
    let files = manifest.files.iter().map(|f| proto::v1::ManifestFile {
        path: f.path.clone(),
        sha256: f.sha256.clone(),
        size_bytes: i64::try_from(f.size).unwrap_or(i64::MAX),
        executable: f.executable,
    });
    Manifest { project_name: manifest.project_name.clone(), files: files.collect() }
}

async fn upload(
    connection: &Connection,
    directory: &Path,
    manifest: &bundle::Manifest,
    missing: Vec<String>,
) -> Result<()> {
    let mut wanted: HashSet<String> = missing.into_iter().collect();
    // Two paths with the same content travel once.
    let files: Vec<_> = manifest.files.iter().filter(|f| wanted.remove(&f.sha256)).cloned().collect();
    let (parts, stream) = mpsc::channel(CHUNKS_AHEAD);
    let (folder, workspace) = (directory.to_path_buf(), connection.workspace.clone());
    let reader = tokio::task::spawn_blocking(move || send_files(&folder, &files, &workspace, &parts));
    let request = client::within(UPLOAD_TIMEOUT, ReceiverStream::new(stream));
    let sent = connection.deployments().upload_files(request).await;
    // A file that changed while it was read ends the upload; that is the reason to tell, not the refused upload.
    reader.await.map_err(|e| Failure::new(Code::Internal, e, ""))??;
    sent?;
    Ok(())
}

fn send_files(
    folder: &Path,
    files: &[ManifestFile],
    workspace: &str,
    parts: &mpsc::Sender<UploadFilesRequest>,
) -> Result<()> {
    // The first message says for whom they are.
    let mut workspace = workspace.to_owned();
    for file in files {
        let path = folder.join(&file.path);
        let changed = || changed_meanwhile(&path);
        let mut content = File::open(&path).map_err(|_| changed())?;
        let size_bytes = i64::try_from(file.size).unwrap_or(i64::MAX);
        let mut next = Some(Part::Header(FileHeader { sha256: file.sha256.clone(), size_bytes }));
        let mut left = file.size;
        while let Some(part) = next {
            if parts
                .blocking_send(UploadFilesRequest { part: Some(part), workspace: std::mem::take(&mut workspace) })
                .is_err()
            {
                // The server ended the call; its answer says why.
                return Ok(());
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let mut chunk = vec![0; length];
            content.read_exact(&mut chunk).map_err(|_| changed())?;
            left -= length as u64;
            next = (length > 0).then_some(Part::Chunk(chunk));
        }
    }
    Ok(())
}

fn changed_meanwhile(path: &Path) -> Failure {
    Failure::new(Code::Temporary, format!("{} changed while it was read", path.display()), "deploy again")
}

/// Whether some pipeline was refused, or the project itself has errors.
pub(crate) fn has_errors(response: &CreateDeploymentResponse) -> bool {
    response.pipelines.iter().any(|p| p.change() == PipelineChange::Rejected)
        || response.diagnostics.iter().any(|d| d.severity() == DiagnosticSeverity::Error)
}

/// What changed and what is wrong, for a person.
pub(crate) fn report(response: &CreateDeploymentResponse, style: Style, validate_only: bool) -> String {
    let mut text: Vec<String> = response.diagnostics.iter().map(|d| diagnostic(d, style)).collect();
    for pipeline in &response.pipelines {
        let name = &pipeline.pipeline;
        let force = match pipeline.version {
            0 => "no version of it is in force",
            _ => "its last good version stays in force",
        };
        text.extend(change(pipeline.change(), force, style).map(|c| format!("{name}  {c}")));
        for trigger in &pipeline.triggers {
            let change = change(trigger.change(), "it stays as it is", style);
            text.extend(change.map(|c| format!("{name}  trigger {}  {c}", harmless(&trigger.trigger))));
        }
    }
    let unchanged = response.pipelines.iter().filter(|p| p.change() == PipelineChange::Unchanged).count();
    if unchanged > 0 {
        text.push(style.dim(&format!("{unchanged} unchanged")));
    }
    let verb = if validate_only { "validated" } else { "deployed" };
    text.push(format!("{verb} {}", short_digest(&response.bundle_digest)));
    text.join("\n")
}

/// `None` where there is nothing to tell.
fn change(change: PipelineChange, rejected: &str, style: Style) -> Option<String> {
    Some(match change {
        PipelineChange::Created => style.good("created"),
        PipelineChange::Updated => style.good("updated"),
        PipelineChange::Archived => style.warn("archived"),
        PipelineChange::Rejected => style.bad(&format!("rejected: {rejected}")),
        PipelineChange::Unchanged | PipelineChange::Unspecified => return None,
    })
}

/// Enough of a digest to tell bundles apart.
pub(crate) fn short_digest(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// `error: pipelines/x/metadata.yaml:3 blocks[2].type: message` and the remedy below.
fn diagnostic(diagnostic: &Diagnostic, style: Style) -> String {
    let severity = match diagnostic.severity() {
        DiagnosticSeverity::Error => style.bad("error:"),
        _ => style.warn("warning:"),
    };
    let line = if diagnostic.line > 0 { format!(":{}", diagnostic.line) } else { String::new() };
    let key = if diagnostic.key.is_empty() { String::new() } else { format!(" {}", diagnostic.key) };
    let place = harmless(&format!("{}{line}{key}", diagnostic.file));
    let mut text = format!("{severity} {place}: {}", harmless(&diagnostic.message));
    if !diagnostic.remedy.is_empty() {
        text.push_str(&format!("\n  {} {}", style.dim("remedy:"), harmless(&diagnostic.remedy)));
    }
    text
}

/// Prints the report of a deployment.
pub(crate) fn print(response: &CreateDeploymentResponse, output: &Output) {
    line(&report(response, output.style, false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{DeployedPipeline, DeployedTrigger};

    #[test]
    fn a_report_names_place_and_remedy() {
        let mut diagnostic = Diagnostic {
            file: "pipelines/x/metadata.yaml".into(),
            key: "blocks[2].type".into(),
            line: 3,
            message: "unknown type".into(),
            remedy: "use transformer".into(),
            ..Diagnostic::default()
        };
        diagnostic.set_severity(DiagnosticSeverity::Error);
        let mut pipeline = DeployedPipeline { pipeline: "y".into(), ..DeployedPipeline::default() };
        pipeline.set_change(PipelineChange::Created);
        let rejected = PipelineChange::Rejected.into();
        pipeline.triggers.push(DeployedTrigger { trigger: "nightly".into(), change: rejected });
        let response = CreateDeploymentResponse {
            bundle_digest: "sha256:0123456789abcdef0123".into(),
            diagnostics: vec![diagnostic],
            pipelines: vec![pipeline],
            ..CreateDeploymentResponse::default()
        };
        assert!(has_errors(&response));
        assert_eq!(
            report(&response, Style { colour: false }, false),
            "error: pipelines/x/metadata.yaml:3 blocks[2].type: unknown type\n  remedy: use transformer\n\
             y  created\ny  trigger nightly  rejected: it stays as it is\ndeployed sha256:0123456789ab"
        );
    }

    #[test]
    fn what_stays_in_force_is_told_as_it_is() {
        let rejected = |pipeline: &str, version| DeployedPipeline {
            pipeline: pipeline.to_owned(),
            version,
            change: PipelineChange::Rejected.into(),
            ..DeployedPipeline::default()
        };
        let pipelines = vec![rejected("new", 0), rejected("old", 3)];
        let response = CreateDeploymentResponse { pipelines, ..CreateDeploymentResponse::default() };
        assert_eq!(
            report(&response, Style { colour: false }, false),
            "new  rejected: no version of it is in force\nold  rejected: its last good version stays in force\ndeployed "
        );
    }

    #[test]
    fn files_travel_in_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let content = vec![7; CHUNK_BYTES + 5];
        std::fs::write(dir.path().join("a"), &content).unwrap();
        let file = |size| ManifestFile { path: "a".into(), sha256: "d".into(), size, executable: false };
        let (parts, mut stream) = mpsc::channel(10);
        send_files(dir.path(), &[file(content.len() as u64)], "sales", &parts).unwrap();
        assert!(
            send_files(dir.path(), &[file(content.len() as u64 + 1)], "sales", &parts).is_err(),
            "the file is shorter"
        );
        drop(parts);
        let lengths: Vec<_> = std::iter::from_fn(|| stream.blocking_recv())
            .filter_map(|p| if let Some(Part::Chunk(c)) = p.part { Some(c.len()) } else { None })
            .collect();
        assert_eq!(lengths, [CHUNK_BYTES, 5, CHUNK_BYTES]);
    }
}
