//! API triggers as Mage's clients call them, and who is not let in.

use crate::cluster::{Cluster, TOKEN, project};
use crate::deploy::deploy;
use crate::http::{self, Answer};
use crate::triggers::{cluster, create, fill};
use ::http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::wait_for;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Far more than anything takes.
const WAIT: Duration = Duration::from_secs(60);

pub(crate) async fn call(cluster: &Cluster, path: &str, headers: &[(&str, &str)], body: impl Into<String>) -> Answer {
    http::send(http::request(Method::POST, &cluster.url(path), headers, body.into())).await
}

pub(crate) async fn token(cluster: &Cluster, trigger: &Value, overlap: &str) -> String {
    let message = json!({ "triggerId": trigger["id"], "overlap": overlap });
    let answer = cluster.call("TriggerService/RotateTriggerToken", message).await;
    answer["token"].as_str().unwrap().to_owned()
}

pub(crate) fn id(trigger: &Value) -> &str {
    trigger["id"].as_str().unwrap()
}

#[tokio::test]
async fn both_addresses_start_runs_with_what_they_are_told() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "called", json!({ "api": {}, "variables": { "a": 1, "b": 1 } })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let body = json!({ "pipeline_run": { "variables": { "b": 2 }, "id": 7, "status": "completed" }, "extra": [1] });
    let by_url = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", id(&trigger));
    let answer = call(&cluster, &by_url, &[], body.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let run = answer.json()["pipeline_run"].clone();
    assert_eq!((&run["status"], &run["pipeline_uuid"]), (&json!("initial"), &json!("daily")));
    assert_eq!(run["variables"], json!({ "a": 1, "b": 2 }));
    assert_eq!((&run["event_variables"], &run["pipeline_schedule_id"]), (&json!({ "extra": [1] }), &trigger["id"]));
    let stored = cluster.call("RunService/GetRun", json!({ "runId": run["id"] })).await;
    assert_eq!(stored["run"]["trigger"], "called");

    let by_header = format!("/api/pipeline_schedules/{}/api_trigger", id(&trigger));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "order-7")];
    let first = call(&cluster, &by_header, &headers, "").await.json();
    let second = call(&cluster, &by_header, &headers, "").await.json();
    assert!(first["pipeline_run"]["id"] == second["pipeline_run"]["id"] && first["pipeline_run"]["id"] != run["id"]);
    let changed = json!({ "pipeline_run": { "variables": { "b": 3 } } }).to_string();
    assert_eq!(call(&cluster, &by_header, &headers, changed).await.status, 409, "the key was used for something else");
    let other = [("authorization", bearer.as_str()), ("idempotency-key", "order-8")];
    assert_ne!(
        call(&cluster, &by_header, &other, "{}").await.json()["pipeline_run"]["id"],
        first["pipeline_run"]["id"]
    );
    for bad in ["[]", "{", "{\"pipeline_run\": 7}", "{\"pipeline_run\": {\"execution_date\": \"9999-01-01\"}}"] {
        assert_eq!(call(&cluster, &by_header, &headers, bad).await.status, 400, "{bad}");
    }
    let nul = json!({ "pipeline_run": { "variables": { "a": "\0" } } }).to_string();
    let refused = call(&cluster, &by_header, &headers, nul).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json().to_string().contains("pipeline_run.variables.a must hold no NUL"), "{:?}", refused.body);
    let history =
        cluster.call("TriggerService/ListFirings", json!({ "triggerId": trigger["id"], "pageSize": 2 })).await;
    assert_eq!(history["firings"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&history["firings"][0]["logicalKey"], &history["firings"][0]["decided"]),
        (&json!("key:order-8"), &json!("fired"))
    );
    assert_ne!(history["nextPageToken"], "");
    // Who started what, by the public part of the token.
    let trail = cluster.call("AuditService/ListAuditEntries", json!({ "workspace": "sales" })).await;
    let of = |method: &str| {
        let all = trail["entries"].as_array().unwrap();
        all.iter().filter(|entry| entry["method"] == method).cloned().collect::<Vec<_>>()
    };
    let by_url = of("/api/pipeline_schedules/{id}/pipeline_runs/{token}");
    let (public, object) = (token.split('_').nth(1).unwrap(), format!("trigger {} of sales", id(&trigger)));
    assert_eq!((&by_url[0]["detail"]["run_id"], &by_url[0]["object"]), (&run["id"], &json!(object)));
    assert_eq!((&by_url[0]["outcome"], &by_url[0]["via"]), (&json!("ok"), &json!(format!("trigger-token:{public}"))));
    let by_header = of("/api/pipeline_schedules/{id}/api_trigger");
    assert_eq!(by_header.iter().filter(|entry| entry["outcome"] == "failed").count(), 6, "{by_header:?}");
    assert!(by_url.len() == 1 && !trail.to_string().contains(token.rsplit('_').next().unwrap()));
    // What a message cannot hold is shown as text, and not left out.
    let path = format!("/api/pipeline_schedules/{}/api_trigger", id(&trigger));
    let exact = r#"{"pipeline_run": {"variables": {"id": 9007199254740993}}}"#;
    let answer = call(&cluster, &path, &[("authorization", bearer.as_str())], exact).await.json();
    let run = &answer["pipeline_run"];
    assert_eq!(run["variables"]["id"], json!(9_007_199_254_740_993_i64));
    let shown = cluster.call("RunService/GetRun", json!({ "runId": run["id"] })).await;
    assert_eq!(shown["run"]["variables"], json!({ "a": 1.0, "b": 1.0, "id": "9007199254740993" }));
}

#[tokio::test]
async fn whoever_has_no_right_token_learns_nothing() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "called", json!({ "api": {} })).await;
    let other = create(&cluster, "other", json!({ "api": {} })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let unknown = "0190a5b8-7c1e-7d3a-9d52-3f1c8a2b6e4d";
    let off_by_one = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    let mut answers = Vec::new();
    for (trigger, token) in [
        (id(&trigger), off_by_one.as_str()),
        (id(&trigger), &token[..token.len() - 1]),
        (id(&trigger), "ptk_0000000000000000_"),
        (id(&trigger), "x"),
        (id(&other), token.as_str()),
        (unknown, token.as_str()),
        ("7", token.as_str()),
        ("..", token.as_str()),
    ] {
        let by_url =
            call(&cluster, &format!("/api/pipeline_schedules/{trigger}/pipeline_runs/{token}"), &[], "{}").await;
        let bearer = format!("Bearer {token}");
        let path = format!("/api/pipeline_schedules/{trigger}/api_trigger");
        let by_header = call(&cluster, &path, &[("authorization", &bearer)], "{}").await;
        for answer in [by_url, by_header] {
            assert_eq!(answer.status, 401, "{trigger} {:?}", answer.body);
            answers.push(answer.json());
        }
    }
    let path = format!("/api/pipeline_schedules/{}/api_trigger", id(&trigger));
    answers.push(call(&cluster, &path, &[], "{}").await.json());
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    // A path that only looks like one of these asks for the cluster's token.
    for trick in [
        format!("/api/pipeline_schedules/{}/pipeline_runs/{token}/x", id(&trigger)),
        format!("/api/pipeline_schedules/{}/pipeline_runs%2f{token}", id(&trigger)),
        format!("/API/pipeline_schedules/{}/api_trigger", id(&trigger)),
        "/api/pipeline_schedules/x/../../events/api_trigger".to_owned(),
        "/api/events".to_owned(),
    ] {
        let bearer = format!("Bearer {token}");
        let answer = call(&cluster, &trick, &[("authorization", &bearer)], "{}").await;
        assert!(matches!(answer.status.as_u16(), 401 | 404), "{trick}: {}", answer.status);
    }
    // Nothing was started, and no token is stored.
    let db = cluster.database.client().await;
    assert_eq!(db.query_one("SELECT count(*) FROM run", &[]).await.unwrap().get::<_, i64>(0), 0);
    let text = "SELECT count(*) FROM trigger_token t WHERE t::text LIKE '%' || $1 || '%'";
    let secret = token.rsplit('_').next().unwrap();
    assert_eq!(db.query_one(text, &[&secret]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_rotation_lets_the_former_token_hold_a_while() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "called", json!({ "api": {} })).await;
    let path = format!("/api/pipeline_schedules/{}/api_trigger", id(&trigger));
    let status =
        async |token: &str| call(&cluster, &path, &[("authorization", &format!("Bearer {token}"))], "{}").await.status;
    let first = token(&cluster, &trigger, "0s").await;
    let second = token(&cluster, &trigger, "3600s").await;
    assert_eq!((status(&first).await.as_u16(), status(&second).await.as_u16()), (200, 200));
    let third = token(&cluster, &trigger, "0s").await;
    let held = cluster.call("TriggerService/ListTriggerTokens", json!({ "triggerId": trigger["id"] })).await;
    assert_eq!((status(&first).await.as_u16(), status(&second).await.as_u16()), (401, 401));
    assert_eq!((status(&third).await.as_u16(), held["tokens"].as_array().unwrap().len()), (200, 1));
    assert!(!held.to_string().contains(third.rsplit('_').next().unwrap()));
    let keyed = json!({ "triggerId": trigger["id"], "overlap": "3600s", "idempotencyKey": "once" });
    let made = cluster.call("TriggerService/RotateTriggerToken", keyed.clone()).await;
    let again = cluster.call("TriggerService/RotateTriggerToken", keyed).await;
    assert_eq!((&again["held"], &again["token"]), (&made["held"], &json!("")), "and nobody kept the token");
    assert_eq!((status(made["token"].as_str().unwrap()).await.as_u16(), status(&third).await.as_u16()), (200, 200));
    for _ in 2..10 {
        token(&cluster, &trigger, "3600s").await;
    }
    let message = json!({ "triggerId": trigger["id"], "overlap": "3600s" });
    assert_eq!(cluster.refused("TriggerService/RotateTriggerToken", message).await.1, "TOO_MANY_TOKENS");
    let nightly = create(&cluster, "nightly", json!({ "schedule": { "every": "@daily" } })).await;
    let message = json!({ "triggerId": nightly["id"] });
    assert_eq!(cluster.refused("TriggerService/RotateTriggerToken", message).await.1, "NOT_AN_API_TRIGGER");
}

#[tokio::test]
async fn paused_and_busy_triggers_start_nothing() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "busy", json!({ "api": {} })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let path = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", id(&trigger));
    let busy = call(&cluster, &path, &[], "{}").await;
    assert_eq!((busy.status.as_u16(), &busy.json()["error"]["type"]), (409, &json!("RUN_SKIPPED")));
    let waits = create(&cluster, "later", json!({ "api": {} })).await;
    let of_it = self::token(&cluster, &waits, "0s").await;
    let later =
        call(&cluster, &format!("/api/pipeline_schedules/{}/pipeline_runs/{of_it}", id(&waits)), &[], "{}").await;
    assert_eq!((later.status.as_u16(), &later.json()["waits"]), (202, &json!(true)), "it was taken");
    cluster.call("TriggerService/PauseTrigger", json!({ "triggerId": trigger["id"] })).await;
    for _ in 0..2 {
        let paused = call(&cluster, &path, &[("idempotency-key", "k")], "{}").await;
        assert_eq!((paused.status.as_u16(), &paused.json()["error"]["type"]), (412, &json!("TRIGGER_PAUSED")));
    }
    // Each of them is accounted for, and the key is free for when the trigger fires again.
    let history = cluster.call("TriggerService/ListFirings", json!({ "triggerId": trigger["id"] })).await;
    let skips: Vec<&Value> = history["firings"].as_array().unwrap().iter().collect();
    assert!(skips.len() == 2 && skips.iter().all(|skip| skip["reason"] == "pause" && skip["logicalKey"] != "key:k"));
    cluster.call("TriggerService/DeleteTrigger", json!({ "triggerId": trigger["id"] })).await;
    assert_eq!(call(&cluster, &path, &[], "{}").await.status, 401);
}

#[tokio::test]
async fn an_archived_workspace_takes_no_call_until_it_is_restored() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "called", json!({ "api": {} })).await;
    let nightly = create(&cluster, "nightly", json!({ "schedule": { "every": "@daily" } })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let path = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", id(&trigger));
    let of = json!({ "name": "sales" });
    cluster.call("WorkspaceService/ArchiveWorkspace", of.clone()).await;
    // The second time changes nothing.
    cluster.call("WorkspaceService/ArchiveWorkspace", of.clone()).await;
    let refused = call(&cluster, &path, &[], "{}").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["type"]), (412, &json!("ARCHIVED")));
    let of_nightly = json!({ "triggerId": nightly["id"] });
    let archived = cluster.call("TriggerService/GetTrigger", of_nightly.clone()).await;
    assert_eq!((&archived["trigger"]["version"], &archived["trigger"]["nextAt"]), (&json!("2"), &Value::Null));
    cluster.call("WorkspaceService/RestoreWorkspace", of).await;
    assert_eq!(call(&cluster, &path, &[], "{}").await.status, 200);
    let restored = cluster.call("TriggerService/GetTrigger", of_nightly).await;
    assert_eq!(restored["trigger"]["version"], "3");
    assert!(restored["trigger"]["nextAt"].is_string(), "{restored}");
}

#[tokio::test]
async fn a_trigger_that_is_edited_meanwhile_starts_as_it_then_is() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "edited", json!({ "api": {} })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let path = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", id(&trigger));
    let answer = call(&cluster, &path, &[], "{}").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

#[tokio::test]
async fn a_trigger_whose_row_is_held_for_a_moment_starts_after_that() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "held", json!({ "api": {} })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let path = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", id(&trigger));
    let answer = call(&cluster, &path, &[], "{}").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

#[tokio::test]
async fn the_address_can_be_switched_off_and_calls_are_counted() {
    let cluster = Cluster::with(|settings| {
        settings.trigger_token_in_url = false;
        settings.limits.trigger_calls_per_second = 1;
    })
    .await;
    fill(&cluster).await;
    let trigger = create(&cluster, "called", json!({ "api": {} })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let by_url = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", id(&trigger));
    assert_eq!(call(&cluster, &by_url, &[], "{}").await.status, 401);
    let bearer = format!("Bearer {token}");
    let mut statuses = Vec::new();
    for _ in 0..8 {
        let answer = call(&cluster, &by_url, &[("authorization", &bearer)], "{}").await;
        assert_eq!(answer.header("retry-after"), if answer.status == 429 { "1" } else { "" });
        statuses.push(answer.status.as_u16());
    }
    assert!(statuses.starts_with(&[200, 200]) && statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn a_token_of_the_projects_file_goes_on_working() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let mage = "0123456789abcdef0123456789abcdef";
    let mut files = project();
    let yaml = format!("triggers:\n- {{name: called, schedule_type: api, status: active, token: {mage}}}\n");
    files.insert("pipelines/daily/triggers.yaml", yaml);
    deploy(&cluster, &files).await;
    let all = cluster.call("TriggerService/ListTriggers", json!({ "workspace": "sales" })).await;
    let trigger = all["triggers"].as_array().unwrap().iter().find(|t| t["name"] == "called").unwrap().clone();
    let path = format!("/api/pipeline_schedules/{}/pipeline_runs/{mage}", id(&trigger));
    assert_eq!(call(&cluster, &path, &[], "{}").await.status, 200);
    let wrong = format!("/api/pipeline_schedules/{}/pipeline_runs/{}0", id(&trigger), &mage[..31]);
    assert_eq!(call(&cluster, &wrong, &[], "{}").await.status, 401);
    let db = cluster.database.client().await;
    let clear = "SELECT count(*) FROM trigger t WHERE t::text LIKE '%' || $1 || '%'";
    assert_eq!(db.query_one(clear, &[&mage]).await.unwrap().get::<_, i64>(0), 0);
}

/// Sends a request and hangs up as soon as the scheduler is at it.
async fn hang_up(cluster: &Cluster, path: &str, token: &str, body: &str) {
    let mut scheduler = cluster.database.client().await;
    let hold = scheduler.transaction().await.unwrap();
    hold.batch_execute("LOCK TABLE firing IN EXCLUSIVE MODE").await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        cluster.addr,
        body.len()
    );
    let mut stream = TcpStream::connect(cluster.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let watch = cluster.database.client().await;
    let waits =
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' LIMIT 1";
    wait_for("the scheduler to begin", WAIT, || async { watch.query_opt(waits, &[]).await.unwrap() }).await;
    drop(stream);
    // What comes after the end of that connection is served after it.
    assert_eq!(cluster.get("/api/v1/workspaces").await.status, 200);
    hold.commit().await.unwrap();
}

#[tokio::test]
async fn whoever_hangs_up_leaves_a_trail() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "called", json!({ "api": {} })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let by_header = format!("/api/pipeline_schedules/{}/api_trigger", id(&trigger));
    hang_up(&cluster, &by_header, &token, "{}").await;
    let message = json!({ "workspace": "sales", "pipeline": "daily" }).to_string();
    hang_up(&cluster, "/orrery.v1.RunService/CreateRun", TOKEN, &message).await;
    let client = cluster.database.client().await;
    for method in ["/api/pipeline_schedules/{id}/api_trigger", "RunService/CreateRun"] {
        let entry = "SELECT outcome FROM audit_entry WHERE method = $1";
        let found = wait_for(format!("an entry of {method}"), WAIT, || async {
            client.query_opt(entry, &[&method]).await.unwrap().map(|row| row.get::<_, String>(0))
        });
        assert_eq!(found.await, "ok", "{method}");
    }
}
