//! Contents on their way out, part after part.

use super::{CHUNK_BYTES_MAX, PART_BYTES, handed_out, hex, no_version, version};
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use ::bytes::Bytes;
use domain::ErrorKind;
use domain::id::ModelVersionId;
use futures_util::{Stream, StreamExt, stream};
use proto::v1::{DownloadModelRequest, DownloadModelResponse, download_model_response::Part};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use store::models::{self, Version};
use tonic::Status;

/// The answers to a download: the version, then its bytes.
pub(crate) async fn download(
    core: &Arc<Core>,
    caller: &Caller,
    request: &DownloadModelRequest,
) -> Result<impl Stream<Item = Result<DownloadModelResponse, Status>> + use<>, Fault> {
    let id = rpc::ids::parse::<ModelVersionId>(&request.version_id, "version_id")?;
    let known = models::get_version(&core.store.client().await?, id).await?.ok_or_else(|| no_version(id))?;
    let offset = u64::try_from(request.offset).ok().filter(|_| request.offset <= known.size_bytes);
    let offset = offset.ok_or_else(|| Fault::field("offset", format!("must be 0 to {}", known.size_bytes)))?;
    let place = core.transfers.place(caller.user.id)?;
    let first = DownloadModelResponse { part: Some(Part::Version(version(known.clone()))) };
    let departure = Departure::from(core.clone(), known, offset);
    let parts = stream::unfold((Some(first), departure), |(first, mut departure)| async move {
        let next = match first {
            Some(first) => Ok(first),
            None => {
                departure.next().await?.map(|chunk| DownloadModelResponse { part: Some(Part::Chunk(chunk.into())) })
            }
        };
        Some((next, (None, departure)))
    });
    Ok(handed_out(parts, place, core.limits.transfer_stall_timeout).map(|part| part.map_err(Status::from)))
}

/// A version while its bytes go.
struct Departure {
    core: Arc<Core>,
    version: Version,
    /// The next part.
    at: usize,
    /// Bytes of it that are not wanted.
    skip: usize,
    /// What is left of the part before.
    rest: Bytes,
    /// Of what has gone, when all of it goes.
    digest: Option<Sha256>,
    /// Nothing follows: it has ended, or failed.
    over: bool,
}

impl Departure {
    fn from(core: Arc<Core>, version: Version, offset: u64) -> Self {
        let part = PART_BYTES as u64;
        let (at, skip) = (offset / part, offset % part);
        Self {
            core,
            version,
            at: usize::try_from(at).unwrap_or(usize::MAX),
            skip: usize::try_from(skip).unwrap_or(0),
            rest: Bytes::new(),
            digest: (offset == 0).then(Sha256::new),
            over: false,
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        if self.over {
            return None;
        }
        while self.rest.is_empty() {
            let Some(part) = self.version.parts.get(self.at) else {
                self.over = true;
                return self.verdict().err().map(Err);
            };
            match self.core.blobs.get_part(&self.version.id.to_string(), part).await {
                Ok(content) => self.rest = content.slice(self.skip.min(content.len())..),
                Err(error) => {
                    self.over = true;
                    return Some(Err(error.into()));
                }
            }
            (self.at, self.skip) = (self.at + 1, 0);
        }
        let chunk = self.rest.split_to(self.rest.len().min(CHUNK_BYTES_MAX));
        if let Some(digest) = &mut self.digest {
            digest.update(&chunk);
        }
        Some(Ok(chunk))
    }

    /// Every part was what its digest says; this is about their number and order.
    fn verdict(&mut self) -> Result<(), Fault> {
        let Some(digest) = self.digest.take() else { return Ok(()) };
        let found = hex(&digest.finalize());
        if found == self.version.sha256 {
            return Ok(());
        }
        tracing::error!(version = %self.version.id, found, "the stored content of a model has another digest");
        let message = "the stored content of this version is damaged; upload it again";
        Err(Fault::new(ErrorKind::Internal, "CONTENT_DAMAGED", message))
    }
}
