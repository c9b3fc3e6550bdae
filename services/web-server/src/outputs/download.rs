//! A file of an output on its way out. Refuses to know what is in it.

use super::{Blind, Content, Left, OutputStores, Stored};
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::models::{CHUNK_BYTES_MAX, handed_out};
use ::bytes::Bytes;
use domain::ErrorKind;
use domain::id::RunId;
use futures_util::{Stream, StreamExt, future, stream};
use proto::v1::{DownloadOutputRequest, DownloadOutputResponse, OutputFile, download_output_response::Part};
use std::sync::Arc;
use tonic::Status;

/// Files that a refusal names.
const FILES_SHOWN: usize = 10;

/// The answers to a download: the file, then its bytes. Of the content only what one chunk of the store holds is in memory.
pub(crate) async fn download(
    core: &Arc<Core>,
    caller: &Caller,
    request: &DownloadOutputRequest,
) -> Result<impl Stream<Item = Result<DownloadOutputResponse, Status>> + use<>, Fault> {
    let run = core.run(rpc::ids::parse::<RunId>(&request.run_id, "run_id")?).await?.id;
    let child = request.child.unwrap_or(-1);
    let pointer = store::outputs::pointer(&core.store.client().await?, run, &request.block, child).await?;
    let pointer = pointer.ok_or_else(|| super::nothing(run, &request.block, child))?;
    if let Some(at) = pointer.expired_at {
        return Err(unavailable(format!("the outputs of run `{run}` are gone since {at}")));
    }
    let place = core.transfers.place(caller.user.id)?;
    let left = Left::of(run, &request.block, child, &pointer);
    let (stored, file) = find(&core.outputs, run, &left, request).await?;
    let Content { bytes, chunks } = core.outputs.content(&left, &file).await.map_err(blind)?;
    let first = OutputFile {
        name: file,
        size_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        kind: stored.kind,
        files: stored.files,
    };
    let chunks = chunks
        .flat_map(|chunk| stream::iter(pieces(chunk)))
        .map(|piece| piece.map(|piece| Part::Chunk(piece.into())).map_err(blind));
    let parts = stream::once(future::ready(Ok(Part::File(first)))).chain(chunks);
    // As long as there are bytes on their way they take a place.
    let parts = handed_out(parts, place, core.limits.transfer_stall_timeout);
    Ok(parts.map(|part| part.map(|part| DownloadOutputResponse { part: Some(part) }).map_err(Status::from)))
}

/// The output, and which of its files is asked for: one that the output has, so no other path is ever read.
async fn find(
    stores: &OutputStores,
    run: RunId,
    left: &Left,
    request: &DownloadOutputRequest,
) -> Result<(Stored, String), Fault> {
    let stored = stores.stored(left, &request.name).await.map_err(blind)?;
    let stored = stored.ok_or_else(|| super::no_output(run, &request.block, &request.name))?;
    let found = match request.file.as_str() {
        "" => stored.files.first(),
        name => stored.files.iter().find(|file| *file == name),
    };
    let file = found.cloned().ok_or_else(|| {
        let message = format!("`{}` has no file `{}`; it has {}", request.name, request.file, shown(&stored.files));
        Fault::new(ErrorKind::NotFound, "OUTPUT_NOT_FOUND", message)
    })?;
    Ok((stored, file))
}

/// Some of the files, and how many others there are.
fn shown(files: &[String]) -> String {
    let (some, others) = files.split_at(files.len().min(FILES_SHOWN));
    let more = if others.is_empty() { String::new() } else { format!(" and {} others", others.len()) };
    format!("{}{more}", some.join(", "))
}

/// No message is larger than what clients take.
fn pieces(chunk: Result<Bytes, Blind>) -> Vec<Result<Bytes, Blind>> {
    match chunk {
        Err(error) => vec![Err(error)],
        Ok(mut rest) => {
            let mut pieces = Vec::with_capacity(rest.len().div_ceil(CHUNK_BYTES_MAX));
            while !rest.is_empty() {
                pieces.push(Ok(rest.split_to(rest.len().min(CHUNK_BYTES_MAX))));
            }
            pieces
        }
    }
}

fn blind(why: Blind) -> Fault {
    match why {
        Blind::Store(error) => error.into(),
        other => unavailable(other.to_string()),
    }
}

fn unavailable(message: String) -> Fault {
    Fault::new(ErrorKind::FailedPrecondition, "OUTPUT_UNAVAILABLE", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_is_larger_than_a_message_may_be() {
        let whole = Bytes::from(vec![7; 2 * CHUNK_BYTES_MAX + 5]);
        let sizes: Vec<_> = pieces(Ok(whole)).into_iter().map(|piece| piece.unwrap().len()).collect();
        assert_eq!(sizes, [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 5]);
        assert!(pieces(Ok(Bytes::new())).is_empty());
    }
}
