//! Contents on their way in. An upload is a row that says how far it is; whoever knows it may go on from there, at any
//! replica.

use super::places::Pace;
use super::{CHUNK_BYTES_MAX, PART_BYTES, hex, no_upload, no_version, version};
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::{people, quota};
use ::bytes::{Bytes, BytesMut};
use domain::ErrorKind;
use domain::id::{ModelVersionId, UploadId, WorkspaceId};
use futures_util::Stream;
use proto::v1::{self, StartUploadRequest, StartUploadResponse, UploadHeader};
use sha2::{Digest, Sha256};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use store::models::{self, Announced, Upload};
use store::workspaces;
use tonic::Status;

/// The longest name of a file.
const FILE_NAME_BYTES_MAX: usize = 255;
/// The most models of one workspace, and versions of one model.
const MODELS_MAX: i64 = 10_000;
const VERSIONS_MAX: i64 = 10_000;
/// The most open uploads of one workspace.
const UPLOADS_MAX: i64 = 1_000;
/// An upload without a new part for so long is forgotten.
const UPLOAD_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Forgotten uploads that the begin of another one clears away.
const SWEPT_MAX: i64 = 20;

/// Begins an upload, or finds out that nothing is to be sent.
pub(crate) async fn start(
    core: &Arc<Core>,
    caller: &Caller,
    request: &StartUploadRequest,
) -> Result<StartUploadResponse, Fault> {
    check(request, core.limits.model_bytes)?;
    sweep(core).await?;
    let mut db = core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    // Under its lock, so that two who begin the same at once find one upload.
    let workspace = workspaces::lock(&transaction, &request.workspace).await?;
    let workspace = workspace.ok_or_else(|| Fault::no_workspace(&request.workspace))?;
    let (project, workspace) = (workspace.project_id, workspace.id);
    let latest = models::versions(&transaction, workspace, &request.name, None, 1).await?.pop();
    let same = |known: &models::Version| known.file_name == request.file_name && known.sha256 == request.sha256;
    if let Some(known) = latest.filter(same) {
        // Nothing is to be sent, and an archived model comes back all the same.
        models::bring_back(&transaction, workspace, &request.name).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        return Ok(StartUploadResponse { version: Some(version(known)), ..StartUploadResponse::default() });
    }
    let announced = Announced {
        workspace,
        name: &request.name,
        file_name: &request.file_name,
        size_bytes: request.size_bytes,
        sha256: &request.sha256,
    };
    if let Some(open) = models::find_upload(&transaction, &announced).await? {
        return Ok(StartUploadResponse { upload_id: open.id.to_string(), offset: open.received_bytes, version: None });
    }
    check_room(&transaction, workspace, &request.name).await?;
    let id = UploadId(uuid::Uuid::now_v7());
    models::insert_upload(&transaction, id, &announced, caller.user.id).await?;
    quota::charge_model(core, &transaction, project, request.size_bytes).await?;
    transaction.commit().await.map_err(store::Error::from)?;
    Ok(StartUploadResponse { upload_id: id.to_string(), offset: 0, version: None })
}

fn check(request: &StartUploadRequest, bytes_max: u64) -> Result<(), Fault> {
    people::check_label(&request.name, "name")?;
    let name = &request.file_name;
    let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
    if name.is_empty() || name.len() > FILE_NAME_BYTES_MAX || name.chars().any(is_odd) || [".", ".."].contains(&&**name)
    {
        return Err(Fault::field("file_name", "must be the name of a file, without a folder, of at most 255 bytes"));
    }
    if request.size_bytes < 1 || request.size_bytes.cast_unsigned() > bytes_max {
        return Err(Fault::field("size_bytes", format!("must be 1 to {bytes_max}")));
    }
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if request.sha256.len() != 64 || !request.sha256.bytes().all(is_hex) {
        return Err(Fault::field("sha256", "must be 64 lower-case hexadecimal digits"));
    }
    Ok(())
}

async fn check_room(db: &store::Transaction<'_>, workspace: WorkspaceId, name: &str) -> Result<(), Fault> {
    let full = |message: String| Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_MODELS", message));
    let (count, versions) = models::count(db, workspace, name).await?;
    if versions >= VERSIONS_MAX {
        return full(format!("a model has at most {VERSIONS_MAX} versions; give the next one another name"));
    }
    if versions == 0 && count >= MODELS_MAX {
        return full(format!("a workspace has at most {MODELS_MAX} models; use another workspace"));
    }
    if models::count_uploads(db, workspace).await? >= UPLOADS_MAX {
        return full(format!("a workspace has at most {UPLOADS_MAX} open uploads; finish some"));
    }
    Ok(())
}

/// Clears away what was left, row first: from then on nobody can go on with it.
async fn sweep(core: &Arc<Core>) -> Result<(), Fault> {
    let db = core.store.client().await?;
    for id in models::delete_stale_uploads(&db, UPLOAD_KEPT, SWEPT_MAX).await? {
        remove_parts(core, id).await;
    }
    Ok(())
}

async fn remove_parts(core: &Core, id: UploadId) {
    if let Err(error) = core.blobs.remove_parts(&id.to_string()).await {
        tracing::warn!(%error, upload = %id, "parts of an upload that has no row stay behind; remove them by hand");
    }
}

/// Takes the bytes of an upload from `header.offset` on; answers the version when the last one is durable.
pub(crate) async fn receive(
    core: &Core,
    caller: &Caller,
    header: &UploadHeader,
    chunks: impl Stream<Item = Result<Bytes, Status>> + Send,
) -> Result<v1::ModelVersion, Fault> {
    let _place = core.transfers.place(caller.user.id)?;
    let id = rpc::ids::parse::<UploadId>(&header.upload_id, "header.upload_id")?;
    let Some(upload) = models::get_upload(&core.store.client().await?, id).await? else {
        // A client whose answer was lost asks again.
        return ended(core, id).await;
    };
    if header.offset != upload.received_bytes {
        let message = format!("{} bytes have arrived, so the upload goes on from there", upload.received_bytes);
        return Err(Fault::new(ErrorKind::FailedPrecondition, "WRONG_OFFSET", message));
    }
    let mut arrival = Arrival::resume(core, upload).await?;
    let (mut chunks, mut pace) = (pin!(chunks), Pace::new(core.limits.transfer_stall_timeout));
    while let Some(chunk) = pace.next(&mut chunks).await? {
        let chunk = chunk.map_err(|status| arrival.broken(status.message()))?;
        let (bytes, stored) = (chunk.len(), arrival.upload.received_bytes);
        arrival.take(chunk).await?;
        pace.moved(bytes);
        if arrival.upload.received_bytes > stored {
            pace.rest();
        }
    }
    arrival.finish(caller).await
}

/// The version that an upload has become.
async fn ended(core: &Core, id: UploadId) -> Result<v1::ModelVersion, Fault> {
    let known = models::get_version(&core.store.client().await?, ModelVersionId(id.0)).await?;
    known.map(version).ok_or_else(|| no_upload(id))
}

/// An upload while its bytes come.
struct Arrival<'a> {
    core: &'a Core,
    upload: Upload,
    /// Of all bytes that have come, stored or not.
    digest: Sha256,
    /// What has come of the next part.
    part: BytesMut,
}

impl<'a> Arrival<'a> {
    /// What was stored before is read again for the digest of the whole.
    async fn resume(core: &'a Core, upload: Upload) -> Result<Self, Fault> {
        let (mut digest, owner) = (Sha256::new(), upload.id.to_string());
        for part in &upload.parts {
            digest.update(core.blobs.get_part(&owner, part).await?);
        }
        Ok(Self { core, upload, digest, part: BytesMut::new() })
    }

    async fn take(&mut self, mut chunk: Bytes) -> Result<(), Fault> {
        if chunk.len() > CHUNK_BYTES_MAX {
            return Err(Fault::field("chunk", "must have at most 1 MiB"));
        }
        let room = self.missing() - self.part.len();
        if chunk.len() > room {
            return Err(Fault::field("chunk", format!("goes beyond the announced {} bytes", self.upload.size_bytes)));
        }
        self.digest.update(&chunk);
        while !chunk.is_empty() {
            let more = chunk.split_to(chunk.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(&more);
            if self.part.len() == self.missing().min(PART_BYTES) {
                self.store().await?;
            }
        }
        Ok(())
    }

    /// Bytes that are not stored.
    fn missing(&self) -> usize {
        usize::try_from(self.upload.size_bytes - self.upload.received_bytes).unwrap_or(usize::MAX)
    }

    /// The part first, then that it is there.
    async fn store(&mut self) -> Result<(), Fault> {
        let (content, id) = (self.part.split().freeze(), self.upload.id);
        let size = i64::try_from(content.len()).unwrap_or(i64::MAX);
        let part = self.core.blobs.put_part(&id.to_string(), content).await?;
        let db = self.core.store.client().await?;
        if !models::append_part(&db, id, self.upload.received_bytes, &part, size).await? {
            let message = "somebody else goes on with this upload, or it is gone; ask where to go on";
            return Err(Fault::new(ErrorKind::Conflict, "UPLOAD_ELSEWHERE", message));
        }
        self.upload.received_bytes += size;
        Ok(())
    }

    fn broken(&self, why: &str) -> Fault {
        let message = format!(
            "the upload broke off ({why}); {} of {} bytes are stored, go on from there",
            self.upload.received_bytes, self.upload.size_bytes
        );
        Fault::new(ErrorKind::Unavailable, "UPLOAD_INCOMPLETE", message)
    }

    async fn finish(self, caller: &Caller) -> Result<v1::ModelVersion, Fault> {
        if self.missing() > 0 {
            return Err(self.broken("its stream ended early"));
        }
        let id = self.upload.id;
        let found = hex(&self.digest.finalize());
        if found != self.upload.sha256 {
            models::delete_upload(&self.core.store.client().await?, id).await?;
            remove_parts(self.core, id).await;
            let message = format!("the content has the digest {found}, not the announced one; start the upload again");
            return Err(Fault::new(ErrorKind::InvalidArgument, "CONTENT_NOT_AS_ANNOUNCED", message));
        }
        let mut db = self.core.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        models::finish_upload(&transaction, id, caller.user.id).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        let known = models::get_version(&db, ModelVersionId(id.0)).await?;
        known.map(version).ok_or_else(|| no_version(ModelVersionId(id.0)))
    }
}
