//! Bundles on their way in: the manifest is judged, files are stored under their digests, and the project is read from a
//! folder that exists only meanwhile. Refuses to know what becomes of it.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::quota::Coming;
use crate::settings::Limits;
use blobs::{Blobs, Bundle, BundleFile};
use bytes::Bytes;
use domain::ErrorKind;
use domain::id::ProjectId;
use futures_util::{Stream, stream};
use project::bundle::{Manifest, ManifestFile};
use project::{Diagnostic, Project, Severity};
use proto::v1::{self, FileHeader, UploadFilesRequest, UploadFilesResponse, upload_files_request::Part};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::projects;
use tonic::{Status, Streaming};

/// The largest chunk of an upload.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// The manifest of a request, judged, and what is odd about it.
pub(crate) fn manifest(message: Option<v1::Manifest>, limits: &Limits) -> Result<(Manifest, Vec<Diagnostic>), Fault> {
    let message = message.ok_or_else(|| Fault::field("manifest", "must list the files of the project"))?;
    let files = message.files.into_iter().map(file).collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest { project_name: message.project_name, files };
    let warnings = manifest.validate().map_err(|invalid| Fault::field("manifest", format!("is refused: {invalid}")))?;
    check_limits(&manifest, limits)?;
    Ok((manifest, warnings.into_iter().map(warning).collect()))
}

fn file(file: v1::ManifestFile) -> Result<ManifestFile, Fault> {
    let size = u64::try_from(file.size_bytes)
        .map_err(|_| Fault::field("manifest.files.size_bytes", "must not be negative"))?;
    Ok(ManifestFile { path: file.path, sha256: file.sha256, size, executable: file.executable })
}

fn check_limits(manifest: &Manifest, limits: &Limits) -> Result<(), Fault> {
    let over = |what: String| Fault::field("manifest", format!("{what}; list what is no code in .orreryignore"));
    if manifest.files.len() > limits.bundle_files {
        return Err(over(format!("has {} files of at most {}", manifest.files.len(), limits.bundle_files)));
    }
    if manifest.total_bytes() > limits.bundle_bytes {
        return Err(over(format!("has {} bytes of at most {}", manifest.total_bytes(), limits.bundle_bytes)));
    }
    match manifest.files.iter().find(|file| file.size > limits.file_bytes) {
        Some(file) => {
            Err(over(format!("has `{}` with {} bytes of at most {}", file.path, file.size, limits.file_bytes)))
        }
        None => Ok(()),
    }
}

fn warning(message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        file: String::new(),
        key: String::new(),
        line: 0,
        message,
        remedy: "rename one of them".to_owned(),
        pipeline: String::new(),
    }
}

/// The digests of the files that are not stored, each once.
pub(crate) async fn missing(core: &Core, manifest: &Manifest) -> Result<Vec<String>, Fault> {
    let mut digests: Vec<String> = manifest.files.iter().map(|file| file.sha256.clone()).collect();
    digests.sort_unstable();
    digests.dedup();
    let known = core.blobs.has_many(&digests.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    Ok(digests.into_iter().zip(known).filter(|(_, known)| !known).map(|(digest, _)| digest).collect())
}

/// Refuses a bundle whose files were not uploaded.
pub(crate) async fn require_files(core: &Core, manifest: &Manifest) -> Result<(), Fault> {
    let missing = missing(core, manifest).await?;
    let Some(first) = missing.first() else { return Ok(()) };
    let path = manifest.files.iter().find(|file| file.sha256 == *first).map_or("", |file| file.path.as_str());
    let message = format!("{} files are not uploaded, such as `{path}`; plan, upload, then deploy", missing.len());
    Err(Fault::new(ErrorKind::FailedPrecondition, "FILES_MISSING", message))
}

/// Keeps the manifest, by which executors find the files.
pub(crate) async fn keep(core: &Core, manifest: &Manifest, digest: &str) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(manifest).map_err(|e| Fault::internal(&e))?;
    Ok(core.blobs.put_manifest(digest, bytes.into()).await?)
}

/// Reads the project of a bundle. Its templates see nothing of this server's environment, only what its settings say.
pub(crate) async fn read(core: &Core, manifest: &Manifest) -> Result<Project, Fault> {
    let (blobs, manifest, runtime) = (core.blobs.clone(), manifest.clone(), tokio::runtime::Handle::current());
    let projects = core.projects.clone();
    // Laying out, reading and removing thousands of files blocks: all of it happens on a thread for such things.
    let reading = tokio::task::spawn_blocking(move || {
        let folder = tempfile::Builder::new().prefix("orrery-deploy-").tempdir().map_err(|e| Fault::internal(&e))?;
        let root = runtime.block_on(lay_out(&blobs, &manifest, folder.path()))?;
        Ok(project::load(&root, &|name| projects.variable(name)))
    });
    reading.await.map_err(|e| Fault::internal(&e))?
}

async fn lay_out(blobs: &Blobs, manifest: &Manifest, into: &Path) -> Result<PathBuf, blobs::Error> {
    let file = |file: &ManifestFile| BundleFile {
        path: file.path.clone(),
        sha256: file.sha256.clone(),
        executable: file.executable,
    };
    let (digest, files) = (manifest.digest(), manifest.files.iter().map(file).collect::<Vec<_>>());
    blobs.materialise(&Bundle { digest: &digest, project_name: &manifest.project_name, files: &files }, into).await
}

/// Stores the files of an upload, each when all of it has come and is what its header says.
pub(crate) async fn receive(
    core: &Arc<Core>,
    caller: &Caller,
    mut parts: Streaming<UploadFilesRequest>,
) -> Result<UploadFilesResponse, Status> {
    let mut stored = UploadFilesResponse::default();
    let Some(first) = parts.message().await? else { return Ok(stored) };
    let mut next = match first.part {
        Some(Part::Header(header)) => Some(header),
        Some(Part::Chunk(_)) => return Err(Fault::field("part", "must begin with a header").into()),
        None => return Ok(stored),
    };
    let project = project_of(core, caller, &first.workspace).await?;
    while let Some(header) = next.take() {
        let size = check_header(&header, &stored, &core.limits)?;
        blobs::check_digest(&header.sha256).map_err(Fault::from)?;
        // Before it is stored: afterwards it would lie there, whoever pays.
        let coming = Coming::count(core, project, &header).await?;
        core.blobs.put(&header.sha256, size, content(&mut parts, &mut next)).await.map_err(Fault::from)?;
        coming.stored().await?;
        stored.stored_files += 1;
        stored.stored_bytes += header.size_bytes;
    }
    Ok(stored)
}

/// The project that pays for an upload: files have no tenant in the store, so whoever brings them says for whom. Whether they
/// may was decided before.
async fn project_of(core: &Core, caller: &Caller, workspace: &str) -> Result<ProjectId, Fault> {
    if !workspace.is_empty() {
        return Ok(core.workspace(workspace).await?.project_id);
    }
    let personal = projects::personal(&core.store.client().await?, caller.user.id).await?;
    let why = "must name the workspace that the files are for, in the first message: you have no project of your own";
    personal.map(|project| project.id).ok_or_else(|| Fault::field("workspace", why))
}

/// The files of a manifest as they are counted.
pub(crate) fn counted(manifest: &Manifest) -> Vec<(&str, i64)> {
    let size = |file: &ManifestFile| i64::try_from(file.size).unwrap_or(i64::MAX);
    manifest.files.iter().map(|file| (file.sha256.as_str(), size(file))).collect()
}

/// The chunks up to the next header, which is left in `next`.
fn content<'a>(
    parts: &'a mut Streaming<UploadFilesRequest>,
    next: &'a mut Option<FileHeader>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'a {
    stream::unfold((parts, next), |(parts, next)| async {
        let chunk = match parts.message().await {
            Err(status) => Err(io::Error::other(status)),
            Ok(message) => match message.and_then(|message| message.part) {
                Some(Part::Chunk(chunk)) if chunk.len() <= CHUNK_BYTES_MAX => Ok(Bytes::from(chunk)),
                Some(Part::Chunk(_)) => Err(io::Error::other("a chunk must have at most 1 MiB")),
                Some(Part::Header(header)) => {
                    *next = Some(header);
                    return None;
                }
                None => return None,
            },
        };
        Some((chunk, (parts, next)))
    })
}

fn check_header(header: &FileHeader, stored: &UploadFilesResponse, limits: &Limits) -> Result<u64, Fault> {
    let size = u64::try_from(header.size_bytes).map_err(|_| Fault::field("size_bytes", "must not be negative"))?;
    if size > limits.file_bytes {
        return Err(Fault::field("size_bytes", format!("must be at most {}", limits.file_bytes)));
    }
    let files = usize::try_from(stored.stored_files).unwrap_or(usize::MAX);
    let bytes = u64::try_from(stored.stored_bytes).unwrap_or(u64::MAX).saturating_add(size);
    if files >= limits.bundle_files || bytes > limits.bundle_bytes {
        let message = format!("an upload has at most {} files and {} bytes", limits.bundle_files, limits.bundle_bytes);
        return Err(Fault::new(ErrorKind::ResourceExhausted, "UPLOAD_TOO_LARGE", message));
    }
    Ok(size)
}

impl From<blobs::Error> for Fault {
    fn from(error: blobs::Error) -> Self {
        let reason = match error.kind() {
            _ if error.is_cut_short() => "UPLOAD_INCOMPLETE",
            ErrorKind::InvalidArgument => "CONTENT_NOT_AS_ANNOUNCED",
            ErrorKind::NotFound => "FILES_MISSING",
            ErrorKind::ResourceExhausted => "DISK_FULL",
            ErrorKind::Unavailable => "BLOBS",
            _ => return Self::internal(&error),
        };
        Self::new(error.kind(), reason, error.to_string())
    }
}
