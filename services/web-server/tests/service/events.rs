//! Events: who may send them, and what they start.

use crate::cluster::{Cluster, TOKEN};
use crate::http;
use crate::triggers::{cluster, create};
use ::http::Method;
use serde_json::{Value, json};

async fn publish(cluster: &Cluster, query: &str, key: Option<&str>, event: &Value) -> (u16, Value) {
    let bearer = format!("Bearer {TOKEN}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let request =
        http::request(Method::POST, &cluster.url(&format!("/api/events{query}")), &headers, event.to_string());
    let answer = http::send(request).await;
    (answer.status.as_u16(), answer.json())
}

fn runs(answer: &Value) -> Vec<(String, bool)> {
    let all = answer["event"]["pipeline_runs"].as_array().unwrap();
    all.iter().map(|run| (run["pipeline_schedule_name"].as_str().unwrap().to_owned(), run["id"].is_string())).collect()
}

#[tokio::test]
async fn an_integer_that_would_become_another_one_is_refused() {
    let cluster = cluster().await;
    create(&cluster, "any", json!({ "event": { "patterns": [{}] } })).await;
    let refused = async |event: &str, number: &str| {
        let bearer = format!("Bearer {TOKEN}");
        let url = cluster.url("/api/events?workspace=sales");
        let request = http::request(Method::POST, &url, &[("authorization", bearer.as_str())], event.to_owned());
        let answer = http::send(request).await;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        let why = format!("{number} is beyond 2^53; send it as a string");
        assert!(answer.status == 400 && told.contains(&why), "{event}: {told}");
    };
    refused(r#"{"detail": {"id": 9007199254740993}}"#, "9007199254740993").await;
    refused(r#"{"detail": [-9007199254740993]}"#, "-9007199254740993").await;
    refused(r#"{"id": 100000000000000000000}"#, "100000000000000000000").await;
    let fine = r#"{"id": 9007199254740991, "text": "9007199254740993", "mass": 6.022e23}"#;
    let (status, answer) = publish(&cluster, "?workspace=sales", None, &serde_json::from_str(fine).unwrap()).await;
    assert_eq!((status, runs(&answer).len()), (200, 1), "{answer}");
    let create = json!({ "workspace": "sales", "pipeline": "daily", "variables": { "id": 9_007_199_254_740_993_i64 } });
    for (method, message) in [
        ("CreateRun", create.clone()),
        ("BatchCreateRuns", json!({ "workspace": "sales", "pipeline": "daily", "requests": [create] })),
    ] {
        let answer = cluster.post(&format!("RunService/{method}"), message).await;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 400 && told.contains("is beyond 2^53; send it as a string"), "{method}: {told}");
    }
    let db = cluster.database.client().await;
    assert_eq!(db.query_one("SELECT count(*) FROM run", &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn an_event_starts_what_it_matches_once() {
    let cluster = cluster().await;
    let pattern = |pattern: Value| json!({ "event": { "patterns": [pattern] } });
    create(&cluster, "any", pattern(json!({}))).await;
    create(&cluster, "files", pattern(json!({ "source": ["aws.s3"], "detail": { "key": [{ "suffix": ".csv" }] } })))
        .await;
    create(&cluster, "busy", pattern(json!({ "detail": { "size": [{ "numeric": [">", 100] }] } }))).await;
    create(&cluster, "others", pattern(json!({ "source": [{ "anything-but": "aws.s3" }] }))).await;
    let paused = create(&cluster, "paused", pattern(json!({}))).await;
    cluster.call("TriggerService/PauseTrigger", json!({ "triggerId": paused["id"] })).await;

    let event = json!({ "source": "aws.s3", "detail": { "key": "in/a.csv", "size": 101.5 } });
    let (status, answer) = publish(&cluster, "?workspace=sales", Some("e-1"), &event).await;
    assert_eq!(status, 200, "{answer}");
    let mut started = runs(&answer);
    started.sort();
    assert_eq!(started, [("any".into(), true), ("busy".into(), false), ("files".into(), true)]);
    // Whoever looks after the one that is paused finds what it missed.
    let missed = cluster.call("TriggerService/ListFirings", json!({ "triggerId": paused["id"] })).await;
    assert_eq!((&missed["firings"][0]["reason"], &missed["firings"][1]), (&json!("pause"), &Value::Null));
    let run = answer["event"]["pipeline_runs"].as_array().unwrap().iter().find(|run| run["id"].is_string()).unwrap();
    let stored = cluster.call("RunService/GetRun", json!({ "runId": run["id"] })).await;
    assert_eq!(stored["run"]["variables"]["event"], event);

    // The same event again is the same runs; by the service as well.
    let again = publish(&cluster, "?workspace=sales", Some("e-1"), &event).await.1;
    assert_eq!(again, answer);
    let message = json!({ "workspace": "sales", "event": event, "idempotencyKey": "e-1" });
    let served = cluster.call("EventService/PublishEvent", message).await;
    let outcomes = served["outcomes"].as_array().unwrap();
    assert!(outcomes.iter().any(|o| o["runId"] == run["id"]) && outcomes.iter().any(|o| o["skipped"] == "overlap"));
    let fresh = publish(&cluster, "?workspace=sales", None, &event).await.1;
    assert_ne!(fresh, answer);
    // One that its source names is the same one when it is delivered again.
    let named =
        json!({ "source": "aws.s3", "detail-type": "Object Created", "id": "17", "detail": { "key": "in/b.csv" } });
    let first = publish(&cluster, "?workspace=sales", None, &named).await.1;
    assert!(runs(&first).iter().any(|(_, started)| *started));
    assert_eq!(publish(&cluster, "?workspace=sales", None, &named).await.1, first);
    let mut replayed = named.clone();
    replayed["replay-name"] = json!("after the outage");
    assert_eq!(publish(&cluster, "?workspace=sales", None, &replayed).await, (200, first));
    let (_, nothing) = publish(&cluster, "?workspace=sales", None, &json!({ "source": 5 })).await;
    assert_eq!(runs(&nothing).iter().filter(|(name, _)| name != "any" && name != "others").count(), 0);
}

#[tokio::test]
async fn what_is_paused_keeps_nothing_from_an_event() {
    let cluster = cluster().await;
    let pattern = |source: &str| json!({ "event": { "patterns": [{ "source": [source] }] } });
    // Whatever its id, it comes before the others.
    create(&cluster, "active", pattern("here")).await;
    let paused = create(&cluster, "paused", pattern("elsewhere")).await;
    cluster.call("TriggerService/PauseTrigger", json!({ "triggerId": paused["id"] })).await;
    let more = "INSERT INTO trigger (id, pipeline_id, name, version, active, paused_at, kind, spec, source)
                SELECT gen_random_uuid(), pipeline_id, name || n, version, active, paused_at, kind, spec, source
                  FROM trigger, generate_series(1, 10000) AS n WHERE name = 'paused'";
    cluster.database.client().await.execute(more, &[]).await.unwrap();
    let (status, answer) = publish(&cluster, "?workspace=sales", None, &json!({ "source": "here" })).await;
    assert_eq!((status, runs(&answer)), (200, vec![("active".into(), true)]), "{answer}");
    let active = "UPDATE trigger SET active = true, paused_at = NULL, enabled_at = now() WHERE name LIKE 'paused%'";
    cluster.database.client().await.execute(active, &[]).await.unwrap();
    assert_eq!(publish(&cluster, "?workspace=sales", None, &json!({ "source": "here" })).await.0, 429);
}

#[tokio::test]
async fn events_of_strangers_and_rubbish_are_refused() {
    let cluster = cluster().await;
    let bare = http::request(Method::POST, &cluster.url("/api/events"), &[], "{}");
    assert_eq!(http::send(bare).await.status, 401);
    assert_eq!(publish(&cluster, "", None, &json!({})).await.0, 404);
    assert_eq!(publish(&cluster, "?workspace=../sales", None, &json!({})).await.0, 404);
    assert_eq!(publish(&cluster, "?workspace=sales", None, &json!([1])).await.0, 400);
    assert_eq!(publish(&cluster, "?workspace=sales", Some(&"k".repeat(300)), &json!({})).await.0, 400);
    let huge = json!({ "x": "x".repeat(20 << 20) });
    let (status, answer) = publish(&cluster, "?workspace=sales", None, &huge).await;
    let bound = (8 << 20).to_string();
    assert!(status == 413 && answer["error"]["message"].as_str().unwrap().contains(&bound), "{status}: {answer}");
}
