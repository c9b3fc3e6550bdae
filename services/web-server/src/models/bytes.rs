//! Models by plain HTTP: `PUT` of an upload's bytes, `GET` of a version's. Each is a method of the contract with its
//! messages made from a body, or a body from its messages, so all that guards the method guards the path.

use super::CHUNK_BYTES_MAX;
use crate::router::Api;
use crate::surface::Surface;
use crate::transcode::{connect, frame};
use ::bytes::Bytes;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use proto::v1::{
    DownloadModelResponse, ModelVersion, UploadHeader, UploadModelRequest, download_model_response,
    upload_model_request,
};
use serde::Deserialize;
use serde_json::json;
use tonic::Status;

/// What an upload is received by, and a version sent.
const UPLOAD: &str = "/orrery.v1.ModelService/UploadModel";
const DOWNLOAD: &str = "/orrery.v1.ModelService/DownloadModel";
/// Below it, uploads.
pub(crate) const UPLOADS: &str = "/api/v1/uploads/";

/// The routes. An upload's body is bounded by what was announced, where it is received.
pub(crate) fn routes(surface: Surface) -> Surface {
    surface.put("/api/v1/uploads/{upload_id}", receive).get("/api/v1/model-versions/{version_id}/content", send)
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    offset: i64,
}

async fn receive(
    State(api): State<Api>,
    Path(upload_id): Path<String>,
    Query(From { offset }): Query<From>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let header = UploadHeader { upload_id, offset };
    let body = tonic::body::Body::new(StreamBody::new(messages(header, body)));
    let answer = api.transcoder.answer_stream(UPLOAD, &head.headers, &head.extensions, body).await;
    answer.unwrap_or_else(|status| connect::error(&status))
}

/// The header and the body's bytes as the method wants them.
fn messages(header: UploadHeader, body: Body) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + Send {
    let message = |part| Ok(Frame::data(frame(&UploadModelRequest { part: Some(part) }.encode_to_vec())));
    let chunks = body.into_data_stream().flat_map(move |data| {
        let pieces: Vec<_> = match data {
            Ok(data) => data
                .chunks(CHUNK_BYTES_MAX)
                .map(|chunk| message(upload_model_request::Part::Chunk(chunk.to_vec())))
                .collect(),
            Err(_) => vec![Err(Status::cancelled("the body broke off"))],
        };
        stream::iter(pieces)
    });
    stream::iter([message(upload_model_request::Part::Header(header))]).chain(chunks)
}

async fn send(State(api): State<Api>, Path(version_id): Path<String>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let offset = offset(&head.headers);
    let message = json!({ "versionId": version_id, "offset": offset.unwrap_or(0).to_string() }).to_string();
    let frames = api.transcoder.frames(DOWNLOAD, &head.headers, &head.extensions, message.as_bytes()).await;
    let mut frames = match frames {
        Ok(frames) => frames,
        Err(status) => return connect::error(&status),
    };
    let version = match frames.next().await.map(|first| first.and_then(version)) {
        Ok(Some(version)) => version,
        Ok(None) => return connect::error(&Status::internal("the server gave no answer")),
        Err(status) => return connect::error(&status),
    };
    if offset.is_some_and(|from| from >= version.size_bytes) {
        return nothing_left(&version);
    }
    let chunks = stream::unfold(frames, |mut frames| async {
        let chunk = frames.next().await.transpose()?.map(chunk);
        Some((chunk, frames))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    describe(&mut response, &version, offset);
    response
}

fn version(first: Bytes) -> Option<ModelVersion> {
    match DownloadModelResponse::decode(first).ok()?.part? {
        download_model_response::Part::Version(version) => Some(version),
        download_model_response::Part::Chunk(_) => None,
    }
}

fn chunk(message: Bytes) -> Bytes {
    match DownloadModelResponse::decode(message).ok().and_then(|message| message.part) {
        Some(download_model_response::Part::Chunk(chunk)) => chunk.into(),
        _ => Bytes::new(),
    }
}

/// The only range that is understood is "from here to the end"; others get the whole, as HTTP allows.
fn offset(headers: &HeaderMap) -> Option<i64> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// For whoever has all of it and asks for the rest.
fn nothing_left(version: &ModelVersion) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    if let Ok(range) = HeaderValue::try_from(format!("bytes */{}", version.size_bytes)) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

fn describe(response: &mut Response, version: &ModelVersion, offset: Option<i64>) {
    let (size, from) = (version.size_bytes, offset.unwrap_or(0));
    if offset.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let range = offset.map(|_| format!("bytes {from}-{}/{size}", size - 1));
    let values = [
        (header::CONTENT_TYPE, Some("application/octet-stream".to_owned())),
        (header::CONTENT_LENGTH, Some((size - from).to_string())),
        (header::ACCEPT_RANGES, Some("bytes".to_owned())),
        (header::ETAG, Some(format!("\"{}\"", version.sha256))),
        (header::CONTENT_DISPOSITION, Some(disposition(&version.file_name))),
        (header::CONTENT_RANGE, range),
    ];
    for (name, value) in values {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// RFC 6266, with everything but letters, digits and `.-_` escaped.
pub(crate) fn disposition(file_name: &str) -> String {
    let escaped = file_name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    format!("attachment; filename*=UTF-8''{}", escaped.collect::<String>())
}

/// A path of an upload, which takes as long as its bytes.
pub(crate) fn is_upload(path: &str) -> bool {
    path == UPLOAD || path.starts_with(UPLOADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_cannot_add_headers() {
        assert_eq!(disposition("a b\".onnx"), "attachment; filename*=UTF-8''a%20b%22.onnx");
        assert_eq!(disposition("é\r\n"), "attachment; filename*=UTF-8''%C3%A9%0D%0A");
    }

    #[test]
    fn only_open_ranges_are_understood() {
        let of = |range: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            offset(&headers)
        };
        assert_eq!((of("bytes=5-"), of("bytes=0-"), of("bytes=5-7"), of("bytes=-5")), (Some(5), Some(0), None, None));
    }
}
