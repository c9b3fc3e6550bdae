//! Streams that are open when the right to them ends.

use crate::cluster::{Cluster, PASSWORD};
use crate::http;
use ::http::Method;
use proto::v1::{
    TailLogsRequest, WatchRunRequest, WatchRuntimeRequest, log_service_client::LogServiceClient,
    run_service_client::RunServiceClient, runtime_service_client::RuntimeServiceClient,
};
use rpc::{auth::Token, client::Channel, status::Problem};
use serde_json::json;
use std::time::Duration;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

/// Far more than one look and its pause.
const SOON: Duration = Duration::from_secs(60);

async fn running(cluster: &Cluster) -> Uuid {
    cluster.workspace("sales").await;
    cluster.pipeline("sales", "daily", &[("load", &[])]).await;
    cluster.run("sales", "daily").await
}

fn channel(cluster: &Cluster, token: &str) -> Channel {
    rpc::client::connect(&[cluster.url("").parse().unwrap()], Some(&Token::new(token).unwrap())).unwrap()
}

/// Somebody who works in the workspace; answers a token.
async fn member(cluster: &Cluster, email: &str) -> String {
    let token = cluster.person(email, "ROLE_UNSPECIFIED").await;
    cluster.call("MemberService/InviteMember", json!({ "workspace": "sales", "email": email })).await;
    token
}

/// How a stream ends.
async fn end<T>(mut stream: Streaming<T>) -> Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended as if all were told"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("an end")
}

fn check(status: &Status) {
    assert_eq!((status.code(), Problem::from_status(status).reason.as_str()), (Code::PermissionDenied, "RIGHT_ENDED"));
}

#[tokio::test]
async fn a_stream_ends_with_the_role_or_the_token_that_opened_it() {
    let cluster = Cluster::new().await;
    let run = running(&cluster).await;
    let [ada, bob] = [member(&cluster, "ada@example.org").await, member(&cluster, "bob@example.org").await];
    let [ada, other] = [channel(&cluster, &ada), channel(&cluster, &bob)];
    let watch = || WatchRunRequest { run_id: run.to_string() };
    let tail = TailLogsRequest { run_id: run.to_string(), ..TailLogsRequest::default() };
    let runtime = WatchRuntimeRequest { workspace: "sales".to_owned() };
    let runs = RunServiceClient::new(ada.clone()).watch_run(watch()).await.unwrap().into_inner();
    let lines = LogServiceClient::new(ada.clone()).tail_logs(tail).await.unwrap().into_inner();
    let lives = RuntimeServiceClient::new(ada).watch_runtime(runtime).await.unwrap().into_inner();
    let by_token = RunServiceClient::new(other).watch_run(watch()).await.unwrap().into_inner();
    let mut kept = RunServiceClient::new(cluster.channel()).watch_run(watch()).await.unwrap().into_inner();
    assert!(kept.message().await.unwrap().is_some());

    let remove = json!({ "workspace": "sales", "email": "ada@example.org" });
    cluster.call("MemberService/RemoveMember", remove).await;
    cluster.call_as(&bob, "SignInService/SignOut", json!({})).await;
    let (runs, lines, lives, by_token) = tokio::join!(end(runs), end(lines), end(lives), end(by_token));
    for status in [runs, lines, lives, by_token] {
        check(&status);
    }
    // Whoever may still see it does.
    cluster.change(run, "UPDATE run SET status = 'cancelled', started_at = coalesce(started_at, now()), completed_at = now() WHERE id = $1").await;
    let last = tokio::time::timeout(SOON, kept.message()).await.expect("the end of the run").unwrap();
    assert_eq!(last.unwrap().run.unwrap().status(), proto::v1::RunStatus::Cancelled);
}

#[tokio::test]
async fn a_page_is_told_that_its_session_has_ended() {
    let cluster = Cluster::new().await;
    let run = running(&cluster).await;
    member(&cluster, "ada@example.org").await;
    let form = json!({ "email": "ada@example.org", "password": PASSWORD }).to_string();
    let json = ("content-type", "application/json");
    let signed_in = http::send(http::request(Method::POST, &cluster.url("/auth/session"), &[json], form)).await;
    let cookies: Vec<&str> =
        signed_in.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    let pairs: Vec<&str> = cookies.iter().filter_map(|cookie| cookie.split(';').next()).collect();
    let csrf = pairs.iter().find_map(|pair| pair.strip_prefix("orrery_csrf=")).unwrap();
    let headers = [json, ("cookie", &*pairs.join("; ")), ("x-csrf-token", csrf)];
    let url = cluster.url("/orrery.v1.LogService/TailLogs");
    let tail = http::open(http::request(Method::POST, &url, &headers, json!({ "runId": run }).to_string())).await;
    cluster.call("UserService/ResetPassword", json!({ "email": "ada@example.org" })).await;
    let answer = tokio::time::timeout(SOON, tail.whole()).await;
    let answer = answer.expect("an end");
    let last = answer.body.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap().to_vec();
    let last = String::from_utf8(last).unwrap();
    assert!(last.contains("RIGHT_ENDED") && last.contains("permission_denied"), "{last}");
}
