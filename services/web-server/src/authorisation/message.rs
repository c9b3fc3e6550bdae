//! The first message of a gRPC body, with the body as it was. Refuses to know what is in it.

use crate::fault::Fault;
use bytes::{Buf, Bytes, BytesMut};
use domain::ErrorKind;
use flate2::read::GzDecoder;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use rpc::status::Problem;
use std::io::Read;
use tonic::Status;
use tonic::body::Body;

/// Flag and length.
const HEAD: usize = 5;

/// Reads the first message, empty when there is none, and answers the whole body again.
pub(super) async fn peek(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<(Vec<u8>, Body), Fault> {
    let mut seen = BytesMut::new();
    let mut rest = None;
    loop {
        if let Some(length) = length(&seen) {
            if length > bytes_max {
                return Err(Problem::too_large(bytes_max).into());
            }
            if seen.len() >= HEAD + length {
                break;
            }
        }
        match body.frame().await {
            None => break,
            Some(Err(status)) => return Err(broken(&status)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => seen.extend_from_slice(&data),
                Err(frame) => {
                    rest = Some(frame);
                    break;
                }
            },
        }
    }
    let seen = seen.freeze();
    let message = match length(&seen) {
        Some(length) if seen.len() >= HEAD + length => decode(headers, &seen, length, bytes_max)?,
        Some(_) => return Err(broken(&"it ends in the middle of a message")),
        None => Vec::new(),
    };
    let first = [Frame::data(seen)].into_iter().chain(rest).map(Ok::<Frame<Bytes>, Status>);
    Ok((message, Body::new(StreamBody::new(stream::iter(first).chain(BodyStream::new(body))))))
}

fn length(seen: &[u8]) -> Option<usize> {
    let mut head = seen.get(1..HEAD)?;
    usize::try_from(head.get_u32()).ok()
}

fn decode(headers: &HeaderMap, seen: &[u8], length: usize, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let content = &seen[HEAD..HEAD + length];
    if seen[0] == 0 {
        return Ok(content.to_vec());
    }
    if headers.get("grpc-encoding").is_none_or(|encoding| encoding.as_bytes() != b"gzip") {
        return Err(broken(&"it is compressed in a way that this server does not know"));
    }
    let mut message = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(content).take(limit).read_to_end(&mut message).map_err(|e| broken(&e))?;
    if message.len() > bytes_max { Err(Problem::too_large(bytes_max).into()) } else { Ok(message) }
}

fn broken(why: &dyn std::fmt::Display) -> Fault {
    Fault::new(ErrorKind::InvalidArgument, "INVALID_MESSAGE", format!("the request cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn frame(flag: u8, content: &[u8]) -> Vec<u8> {
        [&[flag][..], &u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    async fn whole(chunks: Vec<Vec<u8>>, headers: &HeaderMap, max: usize) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let frames = chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(Bytes::from(chunk))));
        let (message, body) = peek(headers, Body::new(StreamBody::new(stream::iter(frames))), max).await?;
        Ok((message, body.collect().await.unwrap().to_bytes().to_vec()))
    }

    #[tokio::test]
    async fn the_body_stays_as_it_was() {
        let headers = HeaderMap::new();
        let bytes = [frame(0, b"one"), frame(0, b"two")].concat();
        // However it is cut.
        for cut in 1..bytes.len() {
            let chunks = vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()];
            assert_eq!(whole(chunks, &headers, 10).await.unwrap(), (b"one".to_vec(), bytes.clone()), "{cut}");
        }
        assert_eq!(whole(vec![], &headers, 10).await.unwrap(), (vec![], vec![]));
        assert!(whole(vec![frame(0, b"one")], &headers, 2).await.is_err());
        assert!(whole(vec![frame(0, b"one")[..6].to_vec()], &headers, 10).await.is_err());
    }

    #[tokio::test]
    async fn a_small_message_cannot_become_a_large_one() {
        let mut headers = HeaderMap::new();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&[7; 5_000]).unwrap();
        let bytes = frame(1, &encoder.finish().unwrap());
        assert!(whole(vec![bytes.clone()], &headers, 10_000).await.is_err(), "no encoding is named");
        headers.insert("grpc-encoding", "gzip".parse().unwrap());
        assert_eq!(whole(vec![bytes.clone()], &headers, 10_000).await.unwrap(), (vec![7; 5_000], bytes.clone()));
        assert!(whole(vec![bytes], &headers, 4_999).await.is_err());
    }
}
