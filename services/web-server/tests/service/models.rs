//! Models: in whole or in pieces, by whom, and out again as they came in.

use crate::cluster::{Cluster, TOKEN, reason};
use crate::http::{self, Answer};
use ::http::Method;
use axum::body::Body;
use bytes::Bytes;
use proto::v1::deployment_service_client::DeploymentServiceClient;
use proto::v1::model_service_client::ModelServiceClient;
use proto::v1::{
    DownloadModelRequest, FileHeader, UploadFilesRequest, UploadHeader, UploadModelRequest, download_model_response,
    upload_files_request, upload_model_request::Part,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;
use testkit::wait_for;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;

/// What the server makes one part of.
const PART: usize = 8 << 20;
/// Far more than anything takes.
const WAIT: Duration = Duration::from_secs(60);

/// Bytes that differ from part to part.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 1_000 % 251) as u8).collect()
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn start(name: &str, content: &[u8]) -> Value {
    let size = content.len().to_string();
    json!({ "workspace": "sales", "name": name, "fileName": "model.onnx", "sizeBytes": size, "sha256": sha256(content) })
}

async fn put(cluster: &Cluster, token: &str, upload: &str, offset: usize, content: &[u8]) -> Answer {
    let url = cluster.url(&format!("/api/v1/uploads/{upload}?offset={offset}"));
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/octet-stream")];
    http::send(http::request(Method::PUT, &url, &headers, content.to_vec())).await
}

async fn get(cluster: &Cluster, version: &str, headers: &[(&str, &str)]) -> Answer {
    let url = cluster.url(&format!("/api/v1/model-versions/{version}/content"));
    let authorization = format!("Bearer {TOKEN}");
    let headers = [&[("authorization", authorization.as_str())], headers].concat();
    http::send(http::request(Method::GET, &url, &headers, "")).await
}

#[tokio::test]
async fn what_breaks_off_goes_on_and_comes_out_as_it_went_in() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let content = content(2 * PART + 12_345);
    let request = start("fraud", &content);
    let began = cluster.call("ModelService/StartUpload", request.clone()).await;
    let upload = began["uploadId"].as_str().unwrap().to_owned();
    assert_eq!((&began["offset"], &began["version"]), (&json!("0"), &Value::Null));
    // By gRPC, and cut short in the second part.
    let header = UploadHeader { upload_id: upload.clone(), offset: 0 };
    let chunks = content[..PART + 100_000].chunks(1 << 20).map(|chunk| Part::Chunk(chunk.to_vec()));
    let parts: Vec<_> =
        [Part::Header(header)].into_iter().chain(chunks).map(|part| UploadModelRequest { part: Some(part) }).collect();
    let mut client = ModelServiceClient::new(cluster.channel());
    let broken = client.upload_model(tokio_stream::iter(parts)).await.unwrap_err();
    assert_eq!(rpc::status::Problem::from_status(&broken).reason, "UPLOAD_INCOMPLETE");
    assert_eq!(cluster.call("ModelService/ListModels", json!({ "workspace": "sales" })).await["models"], json!([]));
    let again = cluster.call("ModelService/StartUpload", request.clone()).await;
    assert_eq!((&again["uploadId"], &again["offset"]), (&json!(upload), &json!(PART.to_string())));
    // From a place where it is not, and then from where it is, as a plain file.
    assert_eq!(reason(&put(&cluster, TOKEN, &upload, 0, &content).await), "WRONG_OFFSET");
    let sent = put(&cluster, TOKEN, &upload, PART, &content[PART..]).await;
    assert_eq!(sent.status, 200, "{:?}", sent.body);
    let version = sent.json()["version"].clone();
    assert_eq!((&version["sha256"], &version["createdBy"]), (&request["sha256"], &json!("owner@localhost")));
    // Whose answer was lost asks again, in either way.
    assert_eq!(put(&cluster, TOKEN, &upload, 0, b"").await.json()["version"], version);
    assert_eq!(cluster.call("ModelService/StartUpload", request).await["version"], version);

    let id = version["id"].as_str().unwrap();
    let whole = get(&cluster, id, &[]).await;
    assert_eq!((whole.status.as_u16(), whole.body == content), (200, true));
    assert_eq!(whole.header("content-disposition"), "attachment; filename*=UTF-8''model.onnx");
    assert_eq!(whole.header("content-length"), content.len().to_string());
    let rest = get(&cluster, id, &[("range", "bytes=16777000-")]).await;
    assert_eq!((rest.status.as_u16(), rest.body == content[16_777_000..]), (206, true));
    assert_eq!(rest.header("content-range"), format!("bytes 16777000-{}/{}", content.len() - 1, content.len()));
    let nothing = get(&cluster, id, &[("range", &format!("bytes={}-", content.len()))]).await;
    assert_eq!((nothing.status.as_u16(), nothing.body.len()), (416, 0));
    assert_eq!(nothing.header("content-range"), format!("bytes */{}", content.len()));
    let request = DownloadModelRequest { version_id: id.to_owned(), offset: content.len() as i64 };
    let mut answers = client.download_model(request).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap().part.unwrap();
    assert!(matches!(first, download_model_response::Part::Version(version) if version.id == id));
    assert!(answers.message().await.unwrap().is_none(), "nothing follows the end");
}

#[tokio::test]
async fn what_is_not_as_announced_leaves_nothing() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let (good, mut bad) = (content(100_000), content(100_000));
    bad[77] ^= 1;
    let upload = cluster.call("ModelService/StartUpload", start("fraud", &good)).await["uploadId"].clone();
    let upload = upload.as_str().unwrap();
    let long = [good.as_slice(), b"x"].concat();
    assert_eq!(reason(&put(&cluster, TOKEN, upload, 0, &long).await), "INVALID_FIELD");
    assert_eq!(reason(&put(&cluster, TOKEN, upload, 0, &bad).await), "CONTENT_NOT_AS_ANNOUNCED");
    assert_eq!(reason(&put(&cluster, TOKEN, upload, 0, &good).await), "UPLOAD_NOT_FOUND");
    assert_eq!(
        std::fs::read_dir(cluster.folder.path().join("blobs/parts"))
            .map_or(0, |parts| { parts.flatten().flat_map(|part| std::fs::read_dir(part.path()).unwrap()).count() }),
        0
    );
    let wrong = |field: &str, value: Value| {
        let mut request = start("fraud", &good);
        request[field] = value;
        request
    };
    for (field, value) in [
        ("name", json!("Not A Label")),
        ("fileName", json!("../../etc/passwd")),
        ("fileName", json!("a\nb")),
        ("fileName", json!("..")),
        ("sizeBytes", json!("0")),
        ("sizeBytes", json!("-1")),
        ("sizeBytes", json!("9223372036854775807")),
        ("sha256", json!("00")),
        ("sha256", json!("G".repeat(64))),
    ] {
        let refused = cluster.refused("ModelService/StartUpload", wrong(field, value.clone())).await;
        assert_eq!(refused.1, "INVALID_FIELD", "{field} {value}");
    }
    for offset in ["-1", "x", "99999999999999999999"] {
        let url = cluster.url(&format!("/api/v1/uploads/{upload}?offset={offset}"));
        let authorization = format!("Bearer {TOKEN}");
        let answer = http::send(http::request(Method::PUT, &url, &[("authorization", &authorization)], "")).await;
        assert!((400..500).contains(&answer.status.as_u16()), "{offset}: {}", answer.status);
    }
}

/// Uploads as a request announces it, and answers the version.
pub(crate) async fn upload(cluster: &Cluster, request: Value, content: &[u8]) -> Value {
    let began = cluster.call("ModelService/StartUpload", request).await;
    let sent = put(cluster, TOKEN, began["uploadId"].as_str().unwrap(), 0, content).await;
    sent.json()["version"].clone()
}

#[tokio::test]
async fn models_are_listed_counted_and_archived() {
    let cluster = Cluster::new().await;
    for workspace in ["sales", "empty"] {
        cluster.workspace(workspace).await;
    }
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
    let of = |name: &str| json!({ "workspace": "sales", "name": name });
    let versions =
        [upload(&cluster, start("fraud", b"1"), b"1").await, upload(&cluster, start("fraud", b"22"), b"22").await];
    upload(&cluster, start("churn", b"3"), b"3").await;
    let listed = cluster.get("/api/v1/workspaces/sales/models?page_size=1").await.json();
    assert_eq!(listed["models"][0]["name"], "churn");
    let next = json!({ "workspace": "sales", "pageSize": 1, "pageToken": listed["nextPageToken"] });
    let listed = cluster.call("ModelService/ListModels", next).await;
    let fraud = &listed["models"][0];
    assert_eq!((&fraud["name"], &fraud["versions"], &fraud["latest"]), (&json!("fraud"), &json!(2), &versions[1]));
    assert_eq!(listed["nextPageToken"], "");
    let shown = cluster.get("/api/v1/workspaces/sales/models/fraud").await.json();
    assert_eq!(shown["versions"], json!([versions[1], versions[0]]));
    let counts = async || cluster.call("ModelService/CountModels", json!({})).await["workspaces"].clone();
    let count = |name: &str, models: i32, pipelines: i32| json!({ "workspace": name, "models": models, "pipelines": pipelines });
    assert_eq!(counts().await, json!([count("empty", 0, 0), count("sales", 2, 1)]));
    cluster.call("ModelService/ArchiveModel", of("fraud")).await;
    cluster.call("ModelService/ArchiveModel", of("fraud")).await;
    assert_eq!(counts().await, json!([count("empty", 0, 0), count("sales", 1, 1)]));
    assert_eq!(cluster.refused("ModelService/ArchiveModel", of("nothing")).await.1, "MODEL_NOT_FOUND");
    assert_eq!(cluster.refused("ModelService/ListModelVersions", of("nothing")).await.1, "MODEL_NOT_FOUND");
    // Its versions stay, and its name comes back with the next one.
    assert_eq!(get(&cluster, versions[0]["id"].as_str().unwrap(), &[]).await.body, "1");
    upload(&cluster, start("fraud", b"333"), b"333").await;
    assert_eq!(counts().await, json!([count("empty", 0, 0), count("sales", 2, 1)]));
    // Or with the very file that it has, of which nothing is to be sent.
    cluster.call("ModelService/ArchiveModel", of("fraud")).await;
    let again = cluster.call("ModelService/StartUpload", start("fraud", b"333")).await;
    assert_eq!((&again["version"]["model"], &again["uploadId"]), (&json!("fraud"), &json!("")));
    assert_eq!(counts().await, json!([count("empty", 0, 0), count("sales", 2, 1)]));
}

#[tokio::test]
async fn an_upload_is_nobody_elses() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let stranger = cluster.person("stranger@example.org", "ROLE_UNSPECIFIED").await;
    let content = content(1_000);
    let began = cluster.call("ModelService/StartUpload", start("fraud", &content)).await;
    let id = began["uploadId"].as_str().unwrap();
    assert_eq!(reason(&put(&cluster, &stranger, id, 0, &content).await), "UPLOAD_NOT_FOUND");
    let own = uuid::Uuid::now_v7().to_string();
    assert_eq!(reason(&put(&cluster, &stranger, &own, 0, &content).await), "UPLOAD_NOT_FOUND");
    let nobody = http::request(Method::PUT, &cluster.url(&format!("/api/v1/uploads/{id}")), &[], content.clone());
    assert_eq!(http::send(nobody).await.status, 401);
    let version = put(&cluster, TOKEN, id, 0, &content).await.json()["version"].clone();
    let download = json!({ "versionId": version["id"] });
    let refused = cluster.refused_as(&stranger, "ModelService/DownloadModel", download).await;
    assert_eq!(refused, "MODEL_VERSION_NOT_FOUND");
    // Of two streams into one upload, one wins and the other is told so; the content is right in any case.
    let content = Bytes::from(self::content(PART + 1));
    let began = cluster.call("ModelService/StartUpload", start("race", &content)).await;
    let id = began["uploadId"].as_str().unwrap();
    let authorization = format!("Bearer {TOKEN}");
    let send = || {
        let url = cluster.url(&format!("/api/v1/uploads/{id}"));
        http::send(http::request(Method::PUT, &url, &[("authorization", &authorization)], Body::from(content.clone())))
    };
    let (one, other) = tokio::join!(send(), send());
    let statuses = [one.status.as_u16(), other.status.as_u16()];
    assert!(statuses.contains(&200), "{statuses:?}");
    let listed = cluster.call("ModelService/ListModelVersions", json!({ "workspace": "sales", "name": "race" })).await;
    assert_eq!(listed["versions"].as_array().unwrap().len(), 1);
    let id = listed["versions"][0]["id"].as_str().unwrap();
    assert!(get(&cluster, id, &[]).await.body == content);
}

/// How the last act of this method ended, once it has.
async fn ended(cluster: &Cluster, method: &str) -> (String, String) {
    let db = cluster.database.client().await;
    let entry = "SELECT outcome, reason FROM audit_entry WHERE method = $1 ORDER BY id DESC LIMIT 1";
    let found = wait_for(format!("an entry of {method}"), WAIT, || async {
        db.query_opt(entry, &[&method]).await.unwrap().map(|row| (row.get(0), row.get(1)))
    });
    found.await
}

#[tokio::test]
async fn whoever_hangs_up_in_an_upload_leaves_a_trail() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let cut_short = ("failed".to_owned(), "UPLOAD_INCOMPLETE".to_owned());
    let db = cluster.database.client().await;

    let content = content(PART + 500_000);
    let began = cluster.call("ModelService/StartUpload", start("fraud", &content)).await;
    let head = format!(
        "PUT /api/v1/uploads/{} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        began["uploadId"].as_str().unwrap(),
        cluster.addr,
        content.len()
    );
    let mut stream = TcpStream::connect(cluster.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&content[..PART + 1_000]).await.unwrap();
    wait_for("the first part", WAIT, || async {
        db.query_opt("SELECT 1 FROM model_upload WHERE received_bytes > 0", &[]).await.unwrap()
    })
    .await;
    drop(stream);
    assert_eq!(ended(&cluster, "ModelService/UploadModel").await, cut_short);

    let header = FileHeader { sha256: sha256(&content), size_bytes: content.len() as i64 };
    let parts = [upload_files_request::Part::Header(header), upload_files_request::Part::Chunk(vec![1; 1_000])];
    let parts = parts.map(|part| UploadFilesRequest { part: Some(part), workspace: "sales".to_owned() });
    let sent = tokio_stream::iter(parts).chain(tokio_stream::pending());
    let mut client = DeploymentServiceClient::new(cluster.channel());
    let sending = tokio::spawn(async move { client.upload_files(sent).await });
    wait_for("the file to be counted", WAIT, || async {
        db.query_opt("SELECT 1 FROM project_file", &[]).await.unwrap()
    })
    .await;
    sending.abort();
    assert_eq!(ended(&cluster, "DeploymentService/UploadFiles").await, cut_short);
}

/// The begin of an upload as a plain file, and nothing after it.
async fn stall(cluster: &Cluster, token: &str, upload: &str) -> TcpStream {
    let head = format!(
        "PUT /api/v1/uploads/{upload} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\nx",
        cluster.addr,
    );
    let mut stream = TcpStream::connect(cluster.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn who_stalls_keeps_nobody_else_out_and_not_for_ever() {
    let stall_timeout = Duration::from_secs(15);
    let cluster = Cluster::with(|settings| settings.limits.transfer_stall_timeout = stall_timeout).await;
    cluster.workspace("sales").await;
    let slow = cluster.person("slow@example.org", "ROLE_UNSPECIFIED").await;
    let invite = json!({ "workspace": "sales", "email": "slow@example.org" });
    cluster.call("MemberService/InviteMember", invite).await;
    let content = content(1_000);
    let began = cluster.call("ModelService/StartUpload", start("fraud", &content)).await;
    let id = began["uploadId"].as_str().unwrap();
    // More than a quarter of what there is, and at once: one after the other, on a busy machine, the first would have been broken off.
    let stalled = futures_util::future::join_all((0..12).map(|_| stall(&cluster, &slow, id))).await;
    wait_for("a refusal", WAIT, || async {
        let answer = put(&cluster, &slow, id, 0, b"").await;
        (answer.status == 429 && reason(&answer) == "TOO_MANY_TRANSFERS").then_some(())
    })
    .await;
    let version = upload(&cluster, start("churn", b"1"), b"1").await;
    assert_eq!(version["model"], "churn", "others go on");
    let mut broken_off = 0;
    for mut stream in stalled {
        let mut told = Vec::new();
        let has = |told: &[u8], reason: &str| String::from_utf8_lossy(told).contains(reason);
        while !has(&told, "TRANSFER_STALLED") && !has(&told, "TOO_MANY_TRANSFERS") {
            let read = tokio::time::timeout(WAIT, stream.read_buf(&mut told)).await.expect("an answer").unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&told));
        }
        broken_off += usize::from(has(&told, "TRANSFER_STALLED"));
    }
    assert!((1..=8).contains(&broken_off), "{broken_off}");
    wait_for("the place of one who stalled", WAIT, || async {
        (put(&cluster, &slow, id, 0, &content).await.status == 200).then_some(())
    })
    .await;
}
