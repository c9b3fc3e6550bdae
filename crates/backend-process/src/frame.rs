//! Frames of the control channel: four bytes of length, big-endian, and a JSON object.

use serde_json::Value;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads one frame; `None` at the end of the stream. Not cancel-safe: run it in a task of its own.
///
/// # Errors
/// When the stream breaks, or holds what is no frame.
pub async fn read<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Option<Value>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Writes one frame. Not cancel-safe.
///
/// # Errors
/// When the stream breaks, or the frame is too long.
pub async fn write<W: AsyncWrite + Unpin>(stream: &mut W, value: &Value) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n as usize <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"))?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    stream.write_all(&frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let sent = json!({"type": "job", "text": "ä".repeat(100)});
        let expected = sent.clone();
        let writer = tokio::spawn(async move { write(&mut ours, &sent).await });
        assert_eq!(read(&mut theirs).await.unwrap(), Some(expected));
        writer.await.unwrap().unwrap();
        assert_eq!(read(&mut theirs).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        ours.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert_eq!(read(&mut theirs).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
