//! Files of outputs by plain HTTP: the method of the contract with its messages made into a body, so all that guards the
//! method guards the path.

use crate::models::bytes::disposition;
use crate::router::Api;
use crate::surface::Surface;
use crate::transcode::connect;
use ::bytes::Bytes;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use prost::Message;
use proto::v1::{DownloadOutputResponse, OutputFile, download_output_response::Part};
use serde::Deserialize;
use serde_json::json;
use tonic::Status;

const DOWNLOAD: &str = "/orrery.v1.OutputService/DownloadOutput";
/// What the file is, as JSON: name, kind and files of `OutputFile`. Without the files where they are too many for a header: the
/// first message of the method has them all.
const FILE: HeaderName = HeaderName::from_static("orrery-output");
/// Proxies take headers of some KiB, Python's client a line of 64.
const FILE_BYTES_MAX: usize = 4 << 10;

/// The route.
pub(crate) fn routes(surface: Surface) -> Surface {
    surface.get("/api/v1/runs/{run_id}/blocks/{block}/outputs/{name}/content", send)
}

#[derive(Deserialize)]
struct Which {
    child: Option<i32>,
    #[serde(default)]
    file: String,
}

async fn send(
    State(api): State<Api>,
    Path((run_id, block, name)): Path<(String, String, String)>,
    Query(Which { child, file }): Query<Which>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let message = json!({ "runId": run_id, "block": block, "name": name, "child": child, "file": file }).to_string();
    let frames = api.transcoder.frames(DOWNLOAD, &head.headers, &head.extensions, message.as_bytes()).await;
    let mut frames = match frames {
        Ok(frames) => frames,
        Err(status) => return connect::error(&status),
    };
    let file = match frames.next().await.map(|first| first.and_then(part)) {
        Ok(Some(Part::File(file))) => file,
        Ok(_) => return connect::error(&Status::internal("the server gave no answer")),
        Err(status) => return connect::error(&status),
    };
    let chunks = stream::unfold(frames, |mut frames| async {
        let chunk = frames.next().await.transpose()?.map(chunk);
        Some((chunk, frames))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    describe(&mut response, &file);
    response
}

fn part(message: Bytes) -> Option<Part> {
    DownloadOutputResponse::decode(message).ok()?.part
}

fn chunk(message: Bytes) -> Bytes {
    match part(message) {
        Some(Part::Chunk(chunk)) => chunk.into(),
        _ => Bytes::new(),
    }
}

fn describe(response: &mut Response, file: &OutputFile) {
    let last = file.name.rsplit('/').next().unwrap_or_default();
    let mut what = json!({ "name": file.name, "kind": file.kind });
    if file.files.iter().map(String::len).sum::<usize>() + 4 * file.files.len() <= FILE_BYTES_MAX {
        what["files"] = json!(file.files);
    }
    let values = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, file.size_bytes.to_string()),
        (header::CONTENT_DISPOSITION, disposition(last)),
        (FILE, what.to_string()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
}
