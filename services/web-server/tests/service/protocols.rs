//! The same services in every protocol.

use crate::cluster::{Cluster, TOKEN, reason};
use crate::http;
use ::http::Method;
use prost::Message;
use proto::v1::workspace_service_client::WorkspaceServiceClient;
use proto::v1::{GetWorkspaceRequest, ListWorkspacesRequest, ListWorkspacesResponse};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn one_answer_in_four_protocols() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    // Native gRPC.
    let mut client = WorkspaceServiceClient::new(cluster.channel());
    let answer = client.list_workspaces(ListWorkspacesRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.workspaces[0].name, "sales");
    // JSON, and the short path.
    let json = cluster.call("WorkspaceService/ListWorkspaces", json!({})).await;
    assert_eq!(json["workspaces"][0]["id"], answer.workspaces[0].id.as_str());
    assert_eq!(cluster.get("/api/v1/workspaces").await.json(), json);
    // gRPC-Web over HTTP/1.1: one frame with the message, one with the trailers.
    let headers = [("content-type", "application/grpc-web+proto"), ("authorization", &*format!("Bearer {TOKEN}"))];
    let url = cluster.url("/orrery.v1.WorkspaceService/ListWorkspaces");
    let web = http::send(http::request(Method::POST, &url, &headers, vec![0, 0, 0, 0, 0])).await;
    assert_eq!((web.status.as_u16(), web.header("content-type")), (200, "application/grpc-web+proto"));
    let length = u32::from_be_bytes(web.body[1..5].try_into().unwrap()) as usize;
    assert_eq!(ListWorkspacesResponse::decode(&web.body[5..5 + length]).unwrap(), answer);
    assert!(String::from_utf8_lossy(&web.body[5 + length..]).contains("grpc-status:0"));
}

#[tokio::test]
async fn the_contract_is_served_by_reflection() {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};
    let cluster = Cluster::new().await;
    let mut client = ServerReflectionClient::new(cluster.channel());
    let ask = |asked: MessageRequest| ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("orrery.v1.WorkspaceService".to_owned())),
    ];
    let mut answers = client.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else { panic!("{listed:?}") };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["orrery.v1.WorkspaceService", "orrery.v1.RuntimeService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let found = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(found)) = found else { panic!("{found:?}") };
    assert!(!found.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn older_tools_find_the_contract_under_the_older_name_of_reflection() {
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1alpha::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};
    let cluster = Cluster::new().await;
    let mut client = ServerReflectionClient::new(cluster.channel());
    let asked = MessageRequest::FileContainingSymbol("orrery.v1.RunService".to_owned());
    let asked = [ServerReflectionRequest { host: String::new(), message_request: Some(asked) }];
    let mut answers = client.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let found = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(found)) = found else { panic!("{found:?}") };
    assert!(!found.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn a_method_that_is_none_is_unimplemented() {
    let cluster = Cluster::new().await;
    let paths = ["/orrery.v1.NoService/Get", "/orrery.v1.RunService/NoMethod", "/grpc.health.v1.Health/NoMethod"];
    for path in paths {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc-web+proto"] {
            let headers = [("content-type", kind), ("authorization", &*format!("Bearer {TOKEN}"))];
            let url = cluster.url(path);
            let answer = http::send(http::request(Method::POST, &url, &headers, vec![0, 0, 0, 0, 0])).await;
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            let unimplemented = answer.header("grpc-status") == "12" || body.contains("grpc-status:12");
            assert!(answer.status == 200 && unimplemented, "{path} {kind}: {} {body}", answer.status);
        }
    }
    // Elsewhere a path that is not there is not found.
    assert_eq!(cluster.get("/api/v1/nothing").await.status, 404);
}

#[tokio::test]
async fn errors_are_typed_in_every_protocol() {
    let cluster = Cluster::new().await;
    let mut client = WorkspaceServiceClient::new(cluster.channel());
    let status = client.get_workspace(GetWorkspaceRequest { name: "nowhere".into() }).await.unwrap_err();
    assert_eq!(rpc::status::Problem::from_status(&status).reason, "WORKSPACE_NOT_FOUND");
    let answer = cluster.post("WorkspaceService/GetWorkspace", json!({ "name": "nowhere" })).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, "application/json"));
    let error = answer.json();
    assert_eq!(error["code"], "not_found");
    assert_eq!(error["details"][0]["type"], "google.rpc.ErrorInfo");
    assert_eq!(error["message"], status.message());
    // A field, by name.
    let answer = cluster.post("WorkspaceService/CreateWorkspace", json!({ "name": "Not A Label" })).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &json!("invalid_argument")));
    let violations = &answer.json()["details"][1]["debug"]["fieldViolations"];
    assert_eq!(violations[0]["field"], "name");
}

#[tokio::test]
async fn json_that_is_no_request_is_refused() {
    let cluster = Cluster::new().await;
    for body in ["{", "[]", "7", "{} {}", r#"{"nme":"x"}"#, r#"{"name":7}"#] {
        let headers = [("content-type", "application/json"), ("authorization", &*format!("Bearer {TOKEN}"))];
        let url = cluster.url("/orrery.v1.WorkspaceService/GetWorkspace");
        let answer = http::send(http::request(Method::POST, &url, &headers, body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["details"][0]["debug"]["reason"], "INVALID_JSON", "{body}");
    }
    let big = json!({ "name": "x".repeat(9 << 20) });
    let answer = cluster.post("WorkspaceService/GetWorkspace", big).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (413, "MESSAGE_TOO_LARGE"));
    assert_eq!((answer.json()["code"].as_str(), answer.header("retry-after")), (Some("resource_exhausted"), ""));
    let upload = cluster.post("DeploymentService/UploadFiles", json!({})).await;
    assert_eq!((upload.status.as_u16(), &upload.json()["code"]), (501, &json!("unimplemented")));
}

#[tokio::test]
async fn streams_are_lines_of_json() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
    let run = cluster.run("sales", "daily").await;
    cluster.change(run, "UPDATE run SET status = 'completed', completed_at = now() WHERE id = $1").await;
    let answer = cluster.post("RunService/WatchRun", json!({ "runId": run })).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = answer.body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(parse).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["run"]["status"], "RUN_STATUS_COMPLETED");
    let gone = cluster.post("RunService/WatchRun", json!({ "runId": uuid::Uuid::nil() })).await;
    assert_eq!((gone.status.as_u16(), &gone.json()["code"]), (404, &json!("not_found")));
}

fn parse(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap()
}

#[tokio::test]
async fn pages_hold_together() {
    let cluster = Cluster::new().await;
    for name in ["e", "a", "c", "d", "b"] {
        cluster.workspace(name).await;
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = cluster.call("WorkspaceService/ListWorkspaces", json!({ "pageSize": 2, "pageToken": token })).await;
        let rows = page["workspaces"].as_array().unwrap();
        names.extend(rows.iter().map(|w| w["name"].as_str().unwrap().to_owned()));
        token = page["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
        // What was shown already does not come again, whatever is added.
        if names.len() == 2 {
            cluster.workspace("aa").await;
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let foreign = json!({ "pageToken": "00ff" });
    assert_eq!(cluster.refused("WorkspaceService/ListWorkspaces", foreign).await.1, "INVALID_FIELD");
}

#[tokio::test]
async fn a_drain_ends_streams_and_then_the_server() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
    let run = cluster.run("sales", "daily").await;
    let mut client = proto::v1::run_service_client::RunServiceClient::new(cluster.channel());
    let request = proto::v1::WatchRunRequest { run_id: run.to_string() };
    let mut stream = client.watch_run(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert_eq!(cluster.get("/readyz").await.status, 200);
    cluster.shutdown.drain();
    let status = stream.message().await.unwrap_err();
    assert_eq!(rpc::status::Problem::from_status(&status).reason, "DRAINING");
    tokio::time::timeout(Duration::from_secs(10), cluster.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_is_cut_short_leaves_nobody_a_connection_that_does_not_answer() {
    let cluster = Cluster::with(|settings| settings.database_connections = 1).await;
    let mut other = cluster.database.client().await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE project IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let authorization = format!("Bearer {TOKEN}");
    let url = cluster.url("/orrery.v1.ProjectService/ListProjects");
    let headers = [("content-type", "application/json"), ("authorization", &authorization), ("grpc-timeout", "300m")];
    let answer = http::send(http::request(Method::POST, &url, &headers, "{}")).await;
    assert_eq!(answer.status, 504, "{:?}", answer.body);
    // Its question is still asked, on the only connection that there was.
    let soon = std::time::Duration::from_secs(4);
    tokio::time::timeout(soon, cluster.call("UserService/ListUsers", json!({}))).await.unwrap();
    lock.rollback().await.unwrap();
}
