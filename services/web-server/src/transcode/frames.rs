//! The frames of a gRPC body: a flag, a length, a message; and the status after the last. Refuses compressed frames,
//! which nobody asks for inside the process.

use axum::body::Bytes;
use bytes::{Buf, BufMut, BytesMut};
use http_body_util::BodyExt;
use tonic::{Code, Status};

/// Flag and length.
const HEAD: usize = 5;

/// The messages of an answer.
pub(crate) struct Frames {
    body: tonic::body::Body,
    buffer: BytesMut,
}

/// A message as a frame.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    // Messages are limited to far less than 4 GiB before they come here.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

impl Frames {
    /// Of a body.
    pub(crate) fn new(body: tonic::body::Body) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` after the last when all went well.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            let Some(part) = self.body.frame().await else { return Ok(None) };
            match part?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(rest) => {
                    let status = rest.trailers_ref().and_then(Status::from_header_map);
                    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                        return Err(status);
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(1..HEAD).map(|mut bytes| bytes.get_u32())?;
        let end = HEAD + usize::try_from(length).ok()?;
        if self.buffer.len() < end {
            return None;
        }
        let mut frame = self.buffer.split_to(end);
        frame.advance(HEAD);
        Some(frame.freeze())
    }
}
