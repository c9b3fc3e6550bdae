//! Outputs in a store that this server may not open itself: an executor, which has the keys that the project gives, reads them
//! part by part. Refuses to know where the store is.

use super::{Blind, Content, Left};
use crate::commands::Commands;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future, stream};
use proto::internal::v1::{FilePart, ReadOutputRequest, read_output_response::Outcome};

/// Of one part, which is one message.
const PART_BYTES: u64 = 1 << 20;
/// Parts of one file that are on their way at once.
const PARTS_AT_ONCE: usize = 2;

/// The first `bytes_max` bytes of one file; `None` when it is not stored.
pub(super) async fn read(commands: &Commands, left: &Left, file: &str, bytes_max: u64) -> Result<Option<Bytes>, Blind> {
    let Some((size, first)) = part(commands, left, file, (0, PART_BYTES.min(bytes_max))).await? else {
        return Ok(None);
    };
    let (end, mut content) = (size.min(bytes_max), BytesMut::from(&first[..]));
    while (content.len() as u64) < end {
        let at = content.len() as u64;
        let (_, next) = part(commands, left, file, (at, PART_BYTES.min(end - at))).await?.ok_or(Blind::Absent)?;
        content.extend_from_slice(&next);
    }
    Ok(Some(content.freeze()))
}

/// One file as it comes; `None` when it is not stored.
pub(super) async fn stream(commands: &Commands, left: &Left, file: &str) -> Result<Option<Content>, Blind> {
    let Some((bytes, first)) = part(commands, left, file, (0, PART_BYTES)).await? else { return Ok(None) };
    let from = first.len() as u64;
    let (commands, left, file) = (commands.clone(), left.clone(), file.to_owned());
    let parts = (from..bytes).step_by(usize::try_from(PART_BYTES).unwrap_or(usize::MAX)).map(move |at| {
        let (commands, left, file) = (commands.clone(), left.clone(), file.clone());
        async move {
            let found = part(&commands, &left, &file, (at, PART_BYTES.min(bytes - at))).await?;
            found.map(|(_, content)| content).ok_or(Blind::Absent)
        }
    });
    let rest = stream::iter(parts).buffered(PARTS_AT_ONCE);
    Ok(Some(Content { bytes, chunks: stream::once(future::ready(Ok(first))).chain(rest).boxed() }))
}

/// What there is from `offset` on, all of `length` where the file has it, and the size of the file.
async fn part(
    commands: &Commands,
    left: &Left,
    file: &str,
    (offset, length): (u64, u64),
) -> Result<Option<(u64, Bytes)>, Blind> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let message = ReadOutputRequest {
        attempt: Some(left.attempt()),
        file: file.to_owned(),
        offset: number(offset),
        length: number(length),
        forwarded: false,
    };
    let blind = |why: String| Blind::Executors { store: left.store.clone(), why };
    let answer = commands.read_output(message).await.map_err(|fault| blind(fault.0.message))?;
    match answer.outcome {
        None => Ok(None),
        Some(Outcome::Failure(why)) => Err(blind(why)),
        Some(Outcome::Part(FilePart { size_bytes, content })) => {
            let size = u64::try_from(size_bytes).unwrap_or(0);
            let whole = content.len() as u64 == length.min(size.saturating_sub(offset));
            if whole { Ok(Some((size, content.into()))) } else { Err(blind("a part of a file is missing".to_owned())) }
        }
    }
}
