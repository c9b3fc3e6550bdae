//! PostgreSQL keeps no NUL. Whoever sends one is told in which field, whatever the way it came.

use crate::cluster::{Cluster, TOKEN, reason};
use crate::http::{self, Answer};
use ::http::Method;
use prost_reflect::{DescriptorPool, Kind};
use serde_json::{Value, json};

/// The field that is to blame.
fn field(answer: &Answer) -> Value {
    answer.json()["details"][1]["debug"]["fieldViolations"][0]["field"].clone()
}

#[tokio::test]
async fn it_is_refused_in_every_text_by_the_name_of_the_field() {
    let cluster = Cluster::new().await;
    let nul = "a\0b";
    for (method, message, place) in [
        ("WorkspaceService/CreateWorkspace", json!({ "name": nul }), "name"),
        ("RunService/CreateRun", json!({ "variables": { "x": [1.5, nul] } }), "variables.x[1]"),
        (
            "RunService/BatchCreateRuns",
            json!({ "requests": [{}, { "idempotencyKey": nul }] }),
            "requests[1].idempotency_key",
        ),
        (
            "BackfillService/CreateBackfill",
            json!({ "spec": { "variables": { "x": { "y": nul } } } }),
            "spec.variables.x.y",
        ),
        ("BackfillService/PreviewBackfill", json!({ "spec": { "variables": { "x\0": 1 } } }), "spec.variables"),
        ("TriggerService/CreateTrigger", json!({ "spec": { "variables": { "x": nul } } }), "spec.variables.x"),
        ("TriggerService/CreateTrigger", json!({ "spec": { "description": nul } }), "spec.description"),
        ("EventService/PublishEvent", json!({ "event": { "x": nul } }), "event.x"),
        ("LogService/SearchLogs", json!({ "text": nul }), "text"),
        ("LogService/TailLogs", json!({ "block": nul }), "block"),
    ] {
        let answer = cluster.post(method, message).await;
        assert_eq!((answer.status.as_u16(), field(&answer)), (400, json!(place)), "{method}: {:?}", answer.body);
    }
    // What only looks like one is text like any other.
    let look_alike = json!({ "workspace": "none", "pipeline": "none", "variables": { "x": "\\u0000", "y": 0.5 } });
    assert_eq!(cluster.refused("RunService/CreateRun", look_alike).await.1, "WORKSPACE_NOT_FOUND");
}

#[tokio::test]
async fn no_method_lets_it_through() {
    let cluster = Cluster::new().await;
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut tried = 0;
    for service in pool.services().filter(|service| service.package_name() == "orrery.v1") {
        for method in service.methods().filter(|method| !method.is_client_streaming()) {
            let input = method.input();
            let texts = input.fields().filter(|field| matches!(field.kind(), Kind::String) && !field.is_list());
            for text in texts.filter(|field| !field.is_map()) {
                let message = json!({ text.json_name(): "\0" });
                let answer = cluster.post(&format!("{}/{}", service.name(), method.name()), message).await;
                assert_eq!(
                    (answer.status.as_u16(), field(&answer)),
                    (400, json!(text.name())),
                    "{}: {:?}",
                    method.full_name(),
                    answer.body
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[tokio::test]
async fn other_ways_in_refuse_it_too() {
    let cluster = Cluster::new().await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
    let send = async |path: &str, headers: &[(&str, &str)], body: Value| {
        http::send(http::request(Method::POST, &cluster.url(path), headers, body.to_string())).await
    };
    let event = send("/api/events?workspace=sales", &headers, json!({ "detail": { "x": "\0" } })).await;
    assert_eq!(event.status, 400);
    assert!(event.json().to_string().contains("detail.x must hold no NUL"), "{:?}", event.body);
    let sign_in = send("/auth/session", &headers[..1], json!({ "email": "a\0b", "password": "x" })).await;
    assert_eq!((sign_in.status.as_u16(), field(&sign_in)), (400, json!("email")));
    let short = cluster.get("/api/v1/runs/a%00b").await;
    assert_eq!((short.status.as_u16(), reason(&short).as_str()), (400, "INVALID_FIELD"));
}
