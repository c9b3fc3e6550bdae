//! Frames of the control channel: four bytes of length, big-endian, and a JSON object.

use serde_json::Value;
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The longest frame.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Takes one frame from the beginning of what was read; `None` where it is not whole yet.
///
/// # Errors
/// When it is too long, or is no frame.
pub fn take(read: &mut Vec<u8>) -> io::Result<Option<Value>> {
    let Some(length) = read.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
    }
    let Some(body) = read.get(4..4 + length) else { return Ok(None) };
    let frame = serde_json::from_slice(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    read.drain(..4 + length);
    Ok(Some(frame))
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
        let (mut written, mut read) = (Vec::new(), Vec::new());
        let sent = [json!({"type": "job", "text": "ä".repeat(100)}), json!({"type": "end"})];
        for frame in &sent {
            write(&mut written, frame).await.unwrap();
        }
        let mut taken = Vec::new();
        for byte in written {
            read.push(byte);
            taken.extend(take(&mut read).unwrap());
        }
        assert_eq!((&taken[..], read.len()), (&sent[..], 0));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused() {
        let mut read = u32::MAX.to_be_bytes().to_vec();
        assert_eq!(take(&mut read).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
